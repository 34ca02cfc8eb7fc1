// Float32 matrix products of packed panels: C = sum_k a_k b_k^T, a tile of C in registers.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "common/matrix.hpp"
#include "common/vectors.hpp"

namespace cliquesim::whitening {

// A tile takes all registers but those for a row of b and a value of a.
#if defined(__AVX512F__)
inline constexpr std::int64_t tile_rows = 14;
#else
inline constexpr std::int64_t tile_rows = 6;
#endif
inline constexpr std::int64_t tile_registers = 2;
inline constexpr std::int64_t tile_cols = tile_registers * register_lanes;

using Tile = Register[tile_rows][tile_registers];

// `a` holds depth x tile_rows values, `b` depth x tile_cols.
inline void multiply(const float* __restrict a, const float* __restrict b, std::int64_t depth,
                     Tile& tile) {
    Tile sum = {};
    for (std::int64_t k = 0; k < depth; ++k, a += tile_rows, b += tile_cols) {
        const Register b0 = load(b), b1 = load(b + register_lanes);
#pragma GCC unroll 14
        for (std::int64_t i = 0; i < tile_rows; ++i) {
            sum[i][0] += a[i] * b0;
            sum[i][1] += a[i] * b1;
        }
    }
#pragma GCC unroll 14
    for (std::int64_t i = 0; i < tile_rows; ++i) {
        tile[i][0] = sum[i][0];
        tile[i][1] = sum[i][1];
    }
}

inline void store(const Tile& tile, float* values) {
    for (std::int64_t i = 0; i < tile_rows; ++i)
        for (std::int64_t r = 0; r < tile_registers; ++r)
            cliquesim::store(values + i * tile_cols + r * register_lanes, tile[i][r]);
}

// to[i] = from[i] - shift[i]; whether all of `from` is finite.
inline bool subtract(const float* __restrict from, const float* __restrict shift,
                     std::int64_t count, float* __restrict to) {
    constexpr std::uint32_t exponent = 0x7F800000;  // all ones in NaN and infinite values alone
    std::uint32_t broken = 0;
    for (std::int64_t j = 0; j < count; ++j) {
        broken |= (std::bit_cast<std::uint32_t>(from[j]) & exponent) == exponent ? 1U : 0U;
        to[j] = from[j] - shift[j];
    }
    return broken == 0;
}

// A tile's part of `matrix` is fetched while its product is formed.
template <typename T>
inline void prefetch(MatrixView<T> matrix, std::int64_t row, std::int64_t col) {
    constexpr std::int64_t per_line = 64 / sizeof(T);
    const std::int64_t end_row = std::min(row + tile_rows, matrix.rows);
    const std::int64_t end_col = std::min(col + tile_cols, matrix.cols);
    for (std::int64_t i = row; i < end_row; ++i)
        for (std::int64_t j = col; j < end_col; j += per_line) __builtin_prefetch(&matrix(i, j), 1);
}

// The smallest row that any thread reports.
class FirstRow {
  public:
    void report(std::int64_t row) {
        std::int64_t seen = row_.load();
        while ((seen < 0 || row < seen) && !row_.compare_exchange_weak(seen, row)) {
        }
    }
    std::int64_t get() const { return row_.load(); }

  private:
    std::atomic<std::int64_t> row_{-1};
};

}  // namespace cliquesim::whitening
