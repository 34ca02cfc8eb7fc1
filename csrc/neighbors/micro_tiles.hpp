// The walk over a tile, register block by register block.
#pragma once

#include <algorithm>

#include "neighbors/float_products.hpp"
#include "neighbors/product_lanes.hpp"

namespace cliquesim {

// Calls full(a, b, row, col, out) for micro_rows rows and micro_panels panels of columns; last(...)
// for single panels that remain. A group of columns stays in the second-level cache meanwhile.
template <typename T, typename Full, typename Last>
inline void for_each_micro_tile(const T* a, const T* b, const TileShape& shape, float* out,
                                std::int64_t stride, const Full& full, const Last& last) {
    const std::int64_t panel = shape.depth * panel_rows;
    for (std::int64_t p = 0; p < shape.panels;) {
        const bool whole = p + micro_panels <= shape.panels;
        const std::int64_t width = whole ? micro_panels : 1;
        const std::int64_t col = p * panel_rows;
        std::int64_t rows = shape.rows;
        if (shape.upper_only) rows = std::min(rows, col + width * panel_rows);
        for (std::int64_t row = 0; row < rows; row += micro_rows) {
            const T* from = a + row / panel_rows * panel + row % panel_rows;
            float* to = out + row * stride + col;
            if (whole)
                full(from, b + p * panel, row, col, to);
            else
                last(from, b + p * panel, row, col, to);
        }
        p += width;
    }
}

}  // namespace cliquesim
