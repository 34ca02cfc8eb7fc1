// Dot products in float32. A product is one function of its two rows, whoever computes it: chains
// of sum_block multiply-adds, one after the other, and the chains' results added in their order. So
// a tile and a single pair give the same bits, and s_ij == s_ji.
#pragma once

#include <cstdint>

namespace cliquesim {

inline constexpr std::int64_t panel_rows = 16;
inline constexpr std::int64_t sum_block = 256;

// By Wilkinson: |computed - exact| <= product_error(D) |x| |y| for any rows x, y of D numbers, as
// long as nothing underflows.
double product_error(std::int64_t dimensions);

// Rows as panels: panel p holds rows 16 p to 16 p + 15, number d of row r at [(p D + d) 16 + r].
struct TileShape {
    std::int64_t rows;    // as many products as there are; rounded up to whole register blocks
    std::int64_t panels;  // of columns
    std::int64_t depth;   // 32-bit units per row of a panel: D, or D/2 pairs of int16
    bool upper_only;      // only what is needed for columns > row
};

// out(r, c) = row r of a times row c of b; out is `stride` floats a row, 16 per panel of b.
void float_tile(const float* a, const float* b, const TileShape& shape, float* out,
                std::int64_t stride);

// out[l] = a[l] . b[l], l in [0, 16).
void float_pairs(const float* const* a, const float* const* b, std::int64_t dimensions, float* out);

}  // namespace cliquesim
