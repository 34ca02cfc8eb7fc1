// Which samples a clique covers, and the concave function that counts covered samples in Eq. (1).
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace cliquesim {

// C in compressed rows: clique k holds the samples indices[offsets[k] .. offsets[k + 1]).
// weights[n] samples have the same column n.
struct CoverageView {
    std::int64_t cliques = 0;
    std::int64_t samples = 0;
    std::span<const std::int64_t> offsets;
    std::span<const std::int64_t> indices;
    std::span<const double> weights;

    std::span<const std::int64_t> of(std::int64_t clique) const {
        return indices.subspan(offsets[clique], offsets[clique + 1] - offsets[clique]);
    }
};

struct Coverage {
    std::vector<std::int64_t> offsets;
    std::vector<std::int64_t> indices;
    std::vector<double> weights;

    CoverageView view() const {
        return {static_cast<std::int64_t>(offsets.size()) - 1,
                static_cast<std::int64_t>(weights.size()), offsets, indices, weights};
    }
};

// Presolve: samples without a clique are dropped (they add nothing to Eq. (1)), and samples with
// the same cliques become one with a weight. New samples are numbered by their first appearance.
Coverage merge_samples(std::span<const std::int64_t> offsets, std::span<const std::int64_t> indices,
                       std::int64_t samples);

// C^T: which cliques hold a sample, in ascending order.
Coverage transpose(const CoverageView& coverage);

// g(t) = ((t + eps)^p - eps^p) / ((1 + eps)^p - eps^p): t^p at eps = 0, and for every eps exact at
// t = 0 and t = 1, but with a finite slope at 0.
class ConcavePower {
  public:
    ConcavePower(double p, double smoothing);

    double value(double t) const { return scale_ * (power(t + smoothing_) - offset_); }

    // g(t), g'(t) and g''(t); t + eps must be positive.
    void evaluate(double t, double& value, double& first, double& second) const {
        const double shifted = t + smoothing_;
        const double reciprocal = 1.0 / shifted;
        const double raised = power(shifted);
        value = scale_ * (raised - offset_);
        first = scale_ * p_ * raised * reciprocal;
        second = (p_ - 1.0) * first * reciprocal;
    }

  private:
    double power(double t) const {
        if (square_roots_ < 0) return std::pow(t, p_);
        for (int i = 0; i < square_roots_; ++i) t = std::sqrt(t);
        return t;
    }

    double p_;
    double smoothing_;
    int square_roots_ = -1;  // p = 2^-square_roots_, as the paper's 1/16 is; else -1
    double offset_ = 0;
    double scale_ = 1;
};

}  // namespace cliquesim
