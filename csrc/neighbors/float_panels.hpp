// Descriptors in the order in which float_tile reads them.
#pragma once

#include <cstdint>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"
#include "neighbors/aligned_buffer.hpp"
#include "neighbors/float_products.hpp"
#include "neighbors/row_blocks.hpp"

namespace cliquesim {

class FloatPanels {
  public:
    FloatPanels() = default;
    // With `standardize`, rows are centred and scaled to length 1 on the way.
    FloatPanels(MatrixView<const float> rows, const RowBlocks& blocks, bool standardize)
        : rows_(rows), blocks_(blocks), standardize_(standardize) {}

    static std::int64_t kept_bytes(const RowBlocks& blocks, std::int64_t dimensions) {
        return blocks.count() * blocks.edge() * panel_depth(dimensions) * 4;
    }

    // Packs every block now; without this a block is packed whenever it is asked for.
    void keep(ThreadPool& pool);

    const float* block(std::int64_t block, AlignedBuffer<float>& scratch) const;

  private:
    void pack(std::int64_t block, float* out) const;

    MatrixView<const float> rows_;
    RowBlocks blocks_;
    bool standardize_ = false;
    AlignedBuffer<float> kept_;
};

}  // namespace cliquesim
