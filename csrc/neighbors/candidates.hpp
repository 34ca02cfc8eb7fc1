// The best rows seen so far of every row of a block.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace cliquesim {

// Score and index in one integer: greater is better, by score first, then by smaller index. Tiles
// come in any order, but the k greatest of a set of keys do not depend on it.
inline std::uint64_t candidate_key(float score, std::int64_t index) {
    const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes +0
    const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<std::uint64_t>(ordered) << 32 |
           (0xffffffffu - static_cast<std::uint32_t>(index));
}

inline float key_score(std::uint64_t key) {
    const auto ordered = static_cast<std::uint32_t>(key >> 32);
    return std::bit_cast<float>(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

inline std::int64_t key_index(std::uint64_t key) {
    return static_cast<std::int64_t>(0xffffffffu - static_cast<std::uint32_t>(key));
}

class CandidateTable {
  public:
    // Keeps the k best of each row; k = 0 takes nothing. A row's buffer is half as long again, so
    // that selection is needed once per k/2 accepted candidates only.
    CandidateTable(std::int64_t rows, std::int64_t k)
        : k_(k),
          capacity_(k > 0 ? k + std::max<std::int64_t>(16, k / 2) : 0),
          keys_(static_cast<std::size_t>(rows * capacity_)),
          counts_(static_cast<std::size_t>(rows), 0),
          least_(static_cast<std::size_t>(rows),
                 k > 0 ? 0 : std::numeric_limits<std::uint64_t>::max()),
          thresholds_(static_cast<std::size_t>(rows),
                      k > 0 ? -std::numeric_limits<float>::infinity()
                            : std::numeric_limits<float>::infinity()) {}

    // Scores below a row's threshold cannot be among its k best; an equal score still can.
    const std::vector<float>& thresholds() const { return thresholds_; }

    void push(std::int64_t row, std::uint64_t key) {
        const auto r = static_cast<std::size_t>(row);
        if (key <= least_[r]) return;
        std::uint64_t* keys = row_keys(row);
        keys[counts_[r]++] = key;
        if (counts_[r] < capacity_) return;
        std::nth_element(keys, keys + k_ - 1, keys + capacity_, std::greater<>());
        counts_[r] = k_;
        least_[r] = keys[k_ - 1];
        thresholds_[r] = key_score(least_[r]);
    }

    // The row's best keys in order, at most k; ends the table's use for this row.
    std::span<const std::uint64_t> sorted(std::int64_t row) {
        std::uint64_t* keys = row_keys(row);
        const std::int64_t count = counts_[static_cast<std::size_t>(row)];
        std::sort(keys, keys + count, std::greater<>());
        return {keys, static_cast<std::size_t>(std::min(count, k_))};
    }

  private:
    std::uint64_t* row_keys(std::int64_t row) { return keys_.data() + row * capacity_; }

    std::int64_t k_;
    std::int64_t capacity_;
    std::vector<std::uint64_t> keys_;
    std::vector<std::int64_t> counts_;
    std::vector<std::uint64_t> least_;  // the k-th best key once it is known
    std::vector<float> thresholds_;     // its score
};

}  // namespace cliquesim
