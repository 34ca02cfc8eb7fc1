// A matrix cut into blocks of rows for tiles, with a halo for temporal pooling.
#pragma once

#include <cstdint>
#include <vector>

#include "common/matrix.hpp"

namespace cliquesim {

// Block b owns rows [begin(b), begin(b) + size(b)). Its panel is edge() rows long, a multiple of
// tile_multiple, and panel row r is matrix row begin(b) - halo + r, or zeros where there is none.
class RowBlocks {
  public:
    RowBlocks() = default;
    RowBlocks(MatrixView<const float> rows, std::int64_t halo);

    std::int64_t count() const { return (rows_.rows + core_ - 1) / core_; }
    std::int64_t begin(std::int64_t block) const { return block * core_; }
    std::int64_t size(std::int64_t block) const {
        return block + 1 < count() ? core_ : rows_.rows - begin(block);
    }
    std::int64_t edge() const { return edge_; }
    MatrixView<const float> panel(std::int64_t block) const;

  private:
    bool inside(std::int64_t block) const;

    MatrixView<const float> rows_;
    std::int64_t halo_ = 0;
    std::int64_t edge_ = 0;
    std::int64_t core_ = 1;
    std::vector<std::vector<float>> copies_;  // of the blocks at the ends; the others are in place
};

}  // namespace cliquesim
