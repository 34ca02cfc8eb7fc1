// One binary X with everything that an exchange of two cliques changes kept up to date.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "batches/batches.hpp"

namespace cliquesim {

// What all the starts of one search share.
struct DiscreteTables {
    DiscreteTables(const BatchProblem& problem_, std::int64_t batches_, std::int64_t per_batch_);

    const BatchProblem& problem;
    Coverage by_sample;  // C^T
    std::int64_t batches, per_batch;
    // What the (c + 1)-th cover of a sample is worth: lambda (g(c + 1) - g(c)); [0] is worth 0 for
    // the "0-th", so that index c is the worth of the c-th cover.
    std::vector<double> batch_gain, total_gain;
    double tolerance;  // exchanges must gain more than the rounding of the sums
};

struct Exchange {
    double change = std::numeric_limits<double>::infinity();
    std::int64_t slot = -1;  // position in the batch's list
    std::int64_t in = -1;
};

class DiscreteState {
  public:
    explicit DiscreteState(const DiscreteTables& tables);

    std::int64_t size(std::int64_t b) const { return sizes_[b]; }
    std::int64_t member(std::int64_t b, std::int64_t slot) const {
        return members_[b * tables_.per_batch + slot];
    }
    bool selected(std::int64_t b, std::int64_t clique) const {
        return selected_[b * cliques_ + clique] != 0;
    }

    void add(std::int64_t b, std::int64_t clique);
    void exchange(std::int64_t b, std::int64_t slot, std::int64_t in);

    // The clique whose addition to batch b increases Eq. (1) least. O(nnz + K).
    std::int64_t best_addition(std::int64_t b);

    // The exchange in batch b with the smallest change of Eq. (1). O(nnz + r K).
    Exchange best_exchange(std::int64_t b);

    // Change of Eq. (1) by one exchange. O(product of their sizes).
    double change_of(std::int64_t b, std::int64_t slot, std::int64_t in) const;

    // Eq. (1) from scratch: the running values carry rounding.
    double objective() const;

  private:
    void cover(std::int64_t b, std::int64_t clique, int by);
    void update_similarity(std::int64_t b, std::int64_t clique, double factor);
    void compute_additions(std::int64_t b);

    const DiscreteTables& tables_;
    std::int64_t cliques_, samples_;
    std::vector<std::int64_t> members_, sizes_;
    std::vector<std::uint8_t> selected_;
    std::vector<double> similarity_;         // S' x_b, (B, K)
    std::vector<std::int32_t> batch_count_;  // x_b C, (B, N)
    std::vector<std::int32_t> total_count_;  // 1 X C, (N)
    std::vector<double> worth_, addition_, correction_;
};

}  // namespace cliquesim
