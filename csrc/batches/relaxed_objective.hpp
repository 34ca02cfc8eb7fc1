// Value and derivatives of Eq. (5), scaled so that its gradient has entries of order 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "batches/batches.hpp"
#include "batches/newton_system.hpp"
#include "batches/similarity_operator.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

class RelaxedObjective {
  public:
    // `with_factor` as for SimilarityOperator.
    RelaxedObjective(const BatchProblem& problem, MatrixView<const double> linear,
                     const CoverageView& by_sample, bool with_factor, ThreadPool& pool);

    // The scaled problem, for the Newton system; live as long as this object. Its S' is
    // similarity().
    const BatchProblem& problem() const { return scaled_; }
    const SimilarityOperator& similarity() const { return similarity_; }
    double scale() const { return scale_; }

    // Fills value, gradient and curvatures at x (B, K), 0 < x < 1.
    void evaluate(std::span<const double> x);

    double value = 0;                     // scaled
    AlignedVector gradient;               // (B, K)
    std::vector<double> batch_curvature;  // -lambda1 w g''(x_b C), (B, N)
    std::vector<double> total_curvature;  // -lambda2 w g''(1 X C), (N)

  private:
    void evaluate_batch(std::int64_t b, const double* x);
    void evaluate_total();

    std::int64_t batches_, cliques_, samples_;
    double scale_;
    SimilarityOperator similarity_;
    AlignedVector linear_;
    BatchProblem scaled_;
    const CoverageView& by_sample_;
    ThreadPool& pool_;
    ConcavePower g_;
    std::vector<double> cover_, total_cover_;
    std::vector<double> batch_slope_, total_slope_;  // w lambda g'
    std::vector<double> batch_value_, shared_gradient_;
    std::vector<SimilarityOperator::Workspace> workspaces_;
};

}  // namespace cliquesim
