// The CUDA kernel of temporal pooling without its launch, so that a host test can run every thread
// of the grid.
#pragma once

#include <cstdint>

#include "temporal/pooling.hpp"

namespace cliquesim {

// Pools requests i (rows) and j (columns) from the similarities of all frames of their windows.
// Device pointers on the device, host pointers in the test.
struct PoolGrid {
    const float* products;  // (row frames, column frames)
    std::int64_t product_stride;
    const std::int64_t* row_positions;  // per request: its row in `products`, and its reach
    const std::int32_t* row_before;
    const std::int32_t* row_after;
    std::int64_t rows;
    const std::int64_t* col_positions;
    const std::int32_t* col_before;
    const std::int32_t* col_after;
    std::int64_t cols;
    float* out;  // (rows, cols)
    std::int64_t out_stride;
};

// One thread: every row_step-th row from first_row on, likewise for the columns.
CLIQUESIM_HOST_DEVICE inline void pool_grid_thread(const PoolGrid& grid, std::int64_t first_row,
                                                   std::int64_t row_step, std::int64_t first_col,
                                                   std::int64_t col_step) {
    for (std::int64_t i = first_row; i < grid.rows; i += row_step) {
        const Reach row{grid.row_before[i], grid.row_after[i]};
        const float* products = grid.products + grid.row_positions[i] * grid.product_stride;
        for (std::int64_t j = first_col; j < grid.cols; j += col_step) {
            const Reach col{grid.col_before[j], grid.col_after[j]};
            grid.out[i * grid.out_stride + j] =
                pooled_element(products + grid.col_positions[j], grid.product_stride, row, col);
        }
    }
}

}  // namespace cliquesim
