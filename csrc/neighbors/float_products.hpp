// Dot products in float32. A product is one function of its two rows, whoever computes it: chains
// of multiply-adds, one after the other, and the chains' results added in their order. So a tile
// and a single pair give the same bits, and s_ij == s_ji. Of many dimensions, number d belongs to
// chain d mod 16: for a single pair these are the lanes of a register.
#pragma once

#include <cstdint>

namespace cliquesim {

inline constexpr std::int64_t panel_rows = 16;

inline std::int64_t chain_count(std::int64_t dimensions) {
    return dimensions < 512 ? 1 : 16;
}
inline std::int64_t chain_length(std::int64_t dimensions) {
    const std::int64_t chains = chain_count(dimensions);
    return (dimensions + chains - 1) / chains;
}
// Numbers per row of a panel; what is beyond the row's own is zero.
inline std::int64_t panel_depth(std::int64_t dimensions) {
    return chain_count(dimensions) * chain_length(dimensions);
}

// By Wilkinson: |computed - exact| <= product_error(D) |x| |y| for any rows x, y of D numbers, as
// long as nothing underflows.
double product_error(std::int64_t dimensions);

// A tile of products of rows that stand in panels: panel p holds rows 16 p to 16 p + 15, number d
// of row r at [(p depth + d) 16 + r].
struct TileShape {
    std::int64_t rows;    // as many products as there are; rounded up to whole register blocks
    std::int64_t panels;  // of columns
    std::int64_t depth;   // 32-bit units per row of a panel
    bool upper_only;      // only what is needed for columns > row
};

// Sixteen rows as a panel, chain by chain.
void pack_chains(const float* const* rows, std::int64_t dimensions, float* panel);

// out(r, c) = row r of a times row c of b; out is `stride` floats a row, 16 per panel of b. Chains
// are `chain` long.
void float_tile(const float* a, const float* b, const TileShape& shape, std::int64_t chain,
                float* out, std::int64_t stride);

// Operations a second (2 of each multiply-add) of one thread out of registers, at best: the floor
// that the benchmark divides by.
double multiply_add_rate(double seconds);

inline constexpr int pair_group = 4;

// out[i] = row . cols[i], i in [0, pair_group).
void float_pairs(const float* row, const float* const* cols, std::int64_t dimensions, float* out);

}  // namespace cliquesim
