// A matrix cut into blocks of rows for tiles, with a halo for temporal pooling.
#pragma once

#include <cstdint>

namespace cliquesim {

// Block b owns rows [begin(b), begin(b) + size(b)). Its panel rows are edge() places, a multiple of
// panel_rows: place r is matrix row begin(b) - halo + r, if there is one.
class RowBlocks {
  public:
    RowBlocks() = default;
    RowBlocks(std::int64_t rows, std::int64_t cols, std::int64_t halo);

    std::int64_t rows() const { return rows_; }
    std::int64_t halo() const { return halo_; }
    std::int64_t count() const { return (rows_ + core_ - 1) / core_; }
    std::int64_t begin(std::int64_t block) const { return block * core_; }
    std::int64_t size(std::int64_t block) const {
        return block + 1 < count() ? core_ : rows_ - begin(block);
    }
    std::int64_t edge() const { return edge_; }
    // Places that are needed: the block and both halos.
    std::int64_t places(std::int64_t block) const { return size(block) + 2 * halo_; }
    // Row of place r, or -1.
    std::int64_t row_at(std::int64_t block, std::int64_t place) const {
        const std::int64_t row = begin(block) - halo_ + place;
        return row >= 0 && row < rows_ ? row : -1;
    }

  private:
    std::int64_t rows_ = 0;
    std::int64_t halo_ = 0;
    std::int64_t edge_ = 0;
    std::int64_t core_ = 1;
};

}  // namespace cliquesim
