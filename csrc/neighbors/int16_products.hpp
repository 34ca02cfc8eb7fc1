// Dot products of int16 rows, exact in int32, at twice the rate of float32.
#pragma once

#include <cstdint>

#include "neighbors/float_products.hpp"

namespace cliquesim {

// As float_tile, of panels of int16 pairs: out(r, c) = (row r . row c) row_scale[r] col_scale[c],
// each of the two factors rounded once.
struct Int16Tile {
    const std::int32_t* a;
    const std::int32_t* b;
    TileShape shape;
    const float* row_scale;
    const float* col_scale;
    float* out;
    std::int64_t stride;
};

void int16_tile(const Int16Tile& tile);

// With AVX512-VNNI; there where the build and the processor have it.
bool has_vnni();
void int16_tile_vnni(const Int16Tile& tile);

// "AVX512-VNNI" or this level's instructions.
const char* int16_instructions();

}  // namespace cliquesim
