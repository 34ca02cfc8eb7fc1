#include "neighbors/row_blocks.hpp"

#include <algorithm>

#include "common/similarity.hpp"

namespace cliquesim {

namespace {
// A tile of this many rows squared stays in the second-level cache (590 kB) and is large enough for
// GEMM to reach its full rate.
constexpr std::int64_t usual_edge = 384;
}  // namespace

RowBlocks::RowBlocks(MatrixView<const float> rows, std::int64_t halo) : rows_(rows), halo_(halo) {
    // A wide halo enlarges the tile, so that at most (6/4)^2 of its products are extra work.
    edge_ = std::min(round_up_to_tile(std::max(usual_edge, 6 * halo)),
                     round_up_to_tile(rows.rows + 2 * halo));
    core_ = std::max<std::int64_t>(edge_ - 2 * halo, 1);
    copies_.resize(static_cast<std::size_t>(count()));
    for (std::int64_t block = 0; block < count(); ++block) {
        if (inside(block)) continue;
        auto& copy = copies_[static_cast<std::size_t>(block)];
        copy.assign(static_cast<std::size_t>(edge_ * rows.cols), 0.0f);
        const std::int64_t first = begin(block) - halo;
        for (std::int64_t row = std::max<std::int64_t>(first, 0);
             row < std::min(first + edge_, rows.rows); ++row)
            std::copy_n(rows.row(row), rows.cols, copy.data() + (row - first) * rows.cols);
    }
}

bool RowBlocks::inside(std::int64_t block) const {
    const std::int64_t first = begin(block) - halo_;
    return first >= 0 && first + edge_ <= rows_.rows;
}

MatrixView<const float> RowBlocks::panel(std::int64_t block) const {
    if (!inside(block)) return {copies_[static_cast<std::size_t>(block)].data(), edge_, rows_.cols};
    return {rows_.row(begin(block) - halo_), edge_, rows_.cols, rows_.stride};
}

}  // namespace cliquesim
