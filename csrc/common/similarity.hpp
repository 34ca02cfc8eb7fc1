// Dot products of descriptor rows, and the correlation metric. Shared by the stages that compare
// rows without ever holding an N x N matrix.
#pragma once

#include <cstdint>
#include <span>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

// similarity_tile's row counts must be multiples of this: the least common multiple of the register
// blocks of Eigen's GEMM at all SIMD levels (12, 24 and 48 rows). No remainder path is taken then,
// and s_ij is the same function of rows i and j wherever in a tile, and in whichever tile, it is
// computed: equal rows tie exactly, and s_ij == s_ji bit for bit.
inline constexpr std::int64_t tile_multiple = 48;

inline std::int64_t round_up_to_tile(std::int64_t rows) {
    return (rows + tile_multiple - 1) / tile_multiple * tile_multiple;
}

// out = a b^T, on the calling thread. a: (m, D), b: (n, D), m and n multiples of tile_multiple.
void similarity_tile(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> out);

// Centred and scaled to length 1, computed in float64, so that a dot product of two such rows is
// their Pearson correlation. A constant row becomes zero: its correlation is defined as 0.
void standardize_row(std::span<const float> row, std::span<float> out);

// Refuses the first row whose squared length overflows float32; by Cauchy-Schwarz no sum within a
// dot product of the other rows can then overflow.
void require_finite_products(MatrixView<const float> rows, const char* name, ThreadPool& pool);

}  // namespace cliquesim
