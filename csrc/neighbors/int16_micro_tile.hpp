// The register block of int16_tile, for sources that differ in their instructions.
#pragma once

#include "neighbors/int16_products.hpp"
#include "neighbors/micro_tiles.hpp"

namespace cliquesim {
namespace {

template <typename Lanes, int Rows, int Panels>
inline void int16_micro_tile(const Int16Tile& tile, const std::int32_t* a, const std::int32_t* b,
                             std::int64_t row, std::int64_t col, float* out) {
    Lanes sum[Rows][Panels];
    for (auto& line : sum)
        for (auto& lanes : line) lanes = Lanes::zero();
    const std::int64_t panel = tile.shape.depth * panel_rows;
    for (std::int64_t d = 0; d < panel; d += panel_rows) {
        Lanes cols[Panels];
        for (int p = 0; p < Panels; ++p) cols[p] = Lanes::load(b + p * panel + d);
        for (int r = 0; r < Rows; ++r) {
            const Lanes pair = Lanes::broadcast(a[d + r]);
            for (int p = 0; p < Panels; ++p) sum[r][p].add_products(pair, cols[p]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int p = 0; p < Panels; ++p)
            sum[r][p].store_scaled(tile.row_scale[row + r], tile.col_scale + col + p * panel_rows,
                                   out + r * tile.stride + p * panel_rows);
}

template <typename Lanes>
inline void int16_tile_of(const Int16Tile& tile) {
    using Unit = std::int32_t;
    for_each_micro_tile<Unit>(
        tile.a, tile.b, tile.shape, tile.out, tile.stride,
        [&](const Unit* a, const Unit* b, std::int64_t row, std::int64_t col, float* out) {
            int16_micro_tile<Lanes, micro_rows, micro_panels>(tile, a, b, row, col, out);
        },
        [&](const Unit* a, const Unit* b, std::int64_t row, std::int64_t col, float* out) {
            int16_micro_tile<Lanes, micro_rows, 1>(tile, a, b, row, col, out);
        });
}

}  // namespace
}  // namespace cliquesim
