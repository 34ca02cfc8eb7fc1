// The CUDA kernel of sums over compressed rows without its launch.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

// Products with a matrix of 0 and 1 whose row i has its ones in columns[offsets[i] .. offsets[i +
// 1]): C, C^T or the pattern of C C^T. Device pointers on the device, host pointers in the test.
struct RowSums {
    const std::int64_t* offsets;
    const std::int64_t* columns;
    std::int64_t rows;
    const double* values;  // (count, width)
    std::int64_t width, count;
    double* out;  // (count, rows)
};

// Neighbouring entries are neighbouring rows: they read nearby columns of the same values.
CLIQUESIM_HOST_DEVICE inline void row_sums_thread(const RowSums& s, std::int64_t first,
                                                  std::int64_t step) {
    for (std::int64_t entry = first; entry < s.rows * s.count; entry += step) {
        const std::int64_t row = entry % s.rows;
        const double* values = s.values + entry / s.rows * s.width;
        double sum = 0;
        for (std::int64_t e = s.offsets[row]; e < s.offsets[row + 1]; ++e)
            sum += values[s.columns[e]];
        s.out[entry] = sum;
    }
}

}  // namespace cliquesim
