// The best rows seen so far of every row of a block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "neighbors/candidate_key.hpp"

namespace cliquesim {

// A row whose score lies within [lower, upper], both the score where it is known.
struct Candidate {
    float lower, upper;
    std::uint32_t code;

    bool exact() const { return lower == upper; }
    std::uint64_t least_key() const { return candidate_key(lower, code); }
    // A score in an interval may turn out to be the mirror image's.
    std::uint64_t greatest_key() const { return candidate_key(upper, code & ~1u); }
};

// Keeps whatever may be among the k best of a row; k = 0 takes nothing. A row's buffer is as
// large again, so that selection is needed once per k accepted candidates only.
class CandidateTable {
  public:
    static std::int64_t capacity_of(std::int64_t k) {
        return k > 0 ? k + std::max<std::int64_t>(16, k) : 0;
    }

    CandidateTable(std::int64_t rows, std::int64_t k)
        : k_(k),
          capacity_(capacity_of(k)),
          candidates_(static_cast<std::size_t>(rows * capacity_)),
          counts_(static_cast<std::size_t>(rows), 0),
          least_(static_cast<std::size_t>(rows),
                 k > 0 ? 0 : std::numeric_limits<std::uint64_t>::max()),
          thresholds_(static_cast<std::size_t>(rows),
                      k > 0 ? -std::numeric_limits<float>::infinity()
                            : std::numeric_limits<float>::infinity()) {}

    // Scores below a row's threshold cannot be among its k best; an equal score still can.
    const std::vector<float>& thresholds() const { return thresholds_; }

    // resolve(row, candidates) replaces intervals by scores. It is called when so many intervals
    // overlap that they fill the buffer.
    template <typename Resolve>
    void push(std::int64_t row, const Candidate& candidate, const Resolve& resolve) {
        const auto r = static_cast<std::size_t>(row);
        if (candidate.greatest_key() < least_[r]) return;
        candidates_[static_cast<std::size_t>(row * capacity_ + counts_[r]++)] = candidate;
        const bool first_bound = counts_[r] == k_ && least_[r] == 0;
        if (counts_[r] < capacity_ && !first_bound) return;
        select(row);
        if (first_bound) return;
        if (4 * (counts_[r] - k_) <= 3 * (capacity_ - k_)) return;
        resolve(row, held(row));
        select(row);
    }

    // What may be among the row's best, intervals too.
    std::span<Candidate> remaining(std::int64_t row) {
        if (counts_[static_cast<std::size_t>(row)] > k_) select(row);
        return held(row);
    }

    // The row's best in order, at most k, once there are no intervals left.
    std::span<const Candidate> sorted(std::int64_t row) {
        const std::span<Candidate> all = held(row);
        std::sort(all.begin(), all.end(), better);
        return all.first(std::min(all.size(), static_cast<std::size_t>(k_)));
    }

  private:
    static bool better(const Candidate& a, const Candidate& b) {
        return a.least_key() > b.least_key();
    }

    std::span<Candidate> held(std::int64_t row) {
        return {candidates_.data() + row * capacity_,
                static_cast<std::size_t>(counts_[static_cast<std::size_t>(row)])};
    }

    // Whoever is certainly worse than k others goes.
    void select(std::int64_t row) {
        const auto r = static_cast<std::size_t>(row);
        const std::span<Candidate> all = held(row);
        const std::uint64_t least = kth_key(all);
        const auto end = std::remove_if(all.begin(), all.end(), [&](const Candidate& candidate) {
            return candidate.greatest_key() < least;
        });
        counts_[r] = end - all.begin();
        least_[r] = least;
        thresholds_[r] = key_score(least);
    }

    // The k-th greatest least_key: bit by bit, as counting what is not below a number has no
    // branches to guess.
    std::uint64_t kth_key(std::span<const Candidate> all) {
        scores_.resize(all.size());
        for (std::size_t i = 0; i < all.size(); ++i) scores_[i] = ordered_score(all[i].lower);
        const auto not_below = [&](std::uint32_t limit) {
            std::uint32_t count = 0;
            for (const std::uint32_t score : scores_) count += score >= limit ? 1 : 0;
            return static_cast<std::int64_t>(count);
        };
        std::uint32_t kth = 0;
        for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1)
            if (not_below(kth | bit) >= k_) kth |= bit;
        codes_.clear();
        for (std::size_t i = 0; i < all.size(); ++i)
            if (scores_[i] == kth) codes_.push_back(all[i].code);
        const std::int64_t greater = kth == 0xffffffffu ? 0 : not_below(kth + 1);
        const auto last = codes_.begin() + (k_ - greater - 1);
        if (codes_.size() > 1) std::nth_element(codes_.begin(), last, codes_.end());
        return static_cast<std::uint64_t>(kth) << 32 | ~*last;
    }

    std::int64_t k_;
    std::int64_t capacity_;
    std::vector<Candidate> candidates_;
    std::vector<std::int64_t> counts_;
    std::vector<std::uint64_t> least_;           // the k-th best least_key once it is known
    std::vector<float> thresholds_;              // its score
    std::vector<std::uint32_t> scores_, codes_;  // of one row, in selection
};

}  // namespace cliquesim
