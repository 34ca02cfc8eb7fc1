// When rounds of reciprocal nearest neighbours give way to the nearest-neighbour chain: the same on
// the CPU and on a GPU, for where distances are equal, the tree depends on it.
#pragma once

#include <cstdint>

namespace cliquesim {

class RoundQuality {
  public:
    void add(std::int64_t pairs, std::int64_t rescans) {
        const bool poor = pairs < few_pairs || rescans > rescans_per_pair * pairs;
        poor_rounds_ = poor ? poor_rounds_ + 1 : 0;
    }
    bool is_poor() const { return poor_rounds_ >= poor_rounds_allowed; }
    void forget() { poor_rounds_ = 0; }

  private:
    static constexpr int poor_rounds_allowed = 32;
    // Measured on clustered and Gaussian data: rounds find 0.1 to 0.3 pairs per cluster and lose
    // one to three neighbours a pair. The chain reads about three rows a merge.
    static constexpr std::int64_t few_pairs = 4, rescans_per_pair = 6;

    int poor_rounds_ = 0;
};

}  // namespace cliquesim
