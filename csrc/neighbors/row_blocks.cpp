#include "neighbors/row_blocks.hpp"

#include <algorithm>

#include "neighbors/float_products.hpp"

namespace cliquesim {

namespace {

// A tile of this many rows squared stays in the second-level cache (590 kB).
constexpr std::int64_t usual_edge = 384;
constexpr std::int64_t least_edge = 96;
// Of a block's rows in float32, so that very long rows get smaller blocks.
constexpr std::int64_t block_bytes = 32 << 20;

std::int64_t round_up(std::int64_t rows) {
    return (rows + panel_rows - 1) / panel_rows * panel_rows;
}

}  // namespace

RowBlocks::RowBlocks(std::int64_t rows, std::int64_t cols, std::int64_t halo)
    : rows_(rows), halo_(halo) {
    const std::int64_t fitting = block_bytes / std::max<std::int64_t>(4 * cols, 1);
    const std::int64_t usual = std::clamp(fitting, least_edge, usual_edge);
    // A wide halo enlarges the tile, so that at most (6/4)^2 of its products are extra work.
    edge_ = std::min(round_up(std::max(usual, 6 * halo)), round_up(rows + 2 * halo));
    core_ = std::max<std::int64_t>(edge_ - 2 * halo, 1);
}

}  // namespace cliquesim
