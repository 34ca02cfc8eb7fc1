// Compiled with flags of its own at the level avx512: nothing here may run before has_vnni().
#include "neighbors/int16_micro_tile.hpp"

namespace cliquesim {

#if defined(__AVX512VNNI__)

namespace {

struct VnniLanes {
    __m512i v;
    static VnniLanes zero() { return {_mm512_setzero_si512()}; }
    static VnniLanes load(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
    static VnniLanes broadcast(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
    void add_products(VnniLanes a, VnniLanes b) { v = _mm512_dpwssd_epi32(v, a.v, b.v); }
    void store_scaled(float row, const float* col, float* out) const {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_set1_ps(row));
        _mm512_storeu_ps(out, _mm512_mul_ps(scaled, _mm512_loadu_ps(col)));
    }
};

}  // namespace

bool has_vnni() {
    return __builtin_cpu_supports("avx512vnni");
}

void int16_tile_vnni(const Int16Tile& tile) {
    int16_tile_of<VnniLanes>(tile);
}

#else

bool has_vnni() {
    return false;
}

void int16_tile_vnni(const Int16Tile& tile) {
    int16_tile(tile);
}

#endif

}  // namespace cliquesim
