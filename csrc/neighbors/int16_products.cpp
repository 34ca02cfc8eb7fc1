#include "neighbors/int16_products.hpp"

#include "neighbors/int16_micro_tile.hpp"

namespace cliquesim {

namespace {

// Sixteen int32 sums; each takes the two products of a pair of int16.
struct PairLanes {
#if defined(__AVX512BW__)
    __m512i v;
    static PairLanes zero() { return {_mm512_setzero_si512()}; }
    static PairLanes load(const std::int32_t* p) { return {_mm512_loadu_si512(p)}; }
    static PairLanes broadcast(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
    void add_products(PairLanes a, PairLanes b) {
        v = _mm512_add_epi32(v, _mm512_madd_epi16(a.v, b.v));
    }
    void store_scaled(float row, const float* col, float* out) const {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_set1_ps(row));
        _mm512_storeu_ps(out, _mm512_mul_ps(scaled, _mm512_loadu_ps(col)));
    }
#elif defined(__AVX2__)
    __m256i v[2];
    static PairLanes zero() { return broadcast(0); }
    static PairLanes load(const std::int32_t* p) {
        const auto* from = reinterpret_cast<const __m256i*>(p);
        return {{_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)}};
    }
    static PairLanes broadcast(std::int32_t x) {
        return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}};
    }
    void add_products(PairLanes a, PairLanes b) {
        for (int half = 0; half < 2; ++half)
            v[half] = _mm256_add_epi32(v[half], _mm256_madd_epi16(a.v[half], b.v[half]));
    }
    void store_scaled(float row, const float* col, float* out) const {
        for (int half = 0; half < 2; ++half) {
            const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(v[half]), _mm256_set1_ps(row));
            _mm256_storeu_ps(out + 8 * half,
                             _mm256_mul_ps(scaled, _mm256_loadu_ps(col + 8 * half)));
        }
    }
#elif defined(__SSE2__)
    __m128i v[4];
    static PairLanes zero() { return broadcast(0); }
    static PairLanes load(const std::int32_t* p) {
        PairLanes lanes;
        std::memcpy(lanes.v, p, sizeof lanes.v);
        return lanes;
    }
    static PairLanes broadcast(std::int32_t x) {
        const __m128i four = _mm_set1_epi32(x);
        return {{four, four, four, four}};
    }
    void add_products(PairLanes a, PairLanes b) {
        for (int part = 0; part < 4; ++part)
            v[part] = _mm_add_epi32(v[part], _mm_madd_epi16(a.v[part], b.v[part]));
    }
    void store_scaled(float row, const float* col, float* out) const {
        for (int part = 0; part < 4; ++part) {
            const __m128 scaled = _mm_mul_ps(_mm_cvtepi32_ps(v[part]), _mm_set1_ps(row));
            _mm_storeu_ps(out + 4 * part, _mm_mul_ps(scaled, _mm_loadu_ps(col + 4 * part)));
        }
    }
#else
    std::int32_t v[16];
    static PairLanes zero() { return broadcast(0); }
    static PairLanes load(const std::int32_t* p) {
        PairLanes lanes;
        std::memcpy(lanes.v, p, sizeof lanes.v);
        return lanes;
    }
    static PairLanes broadcast(std::int32_t x) {
        PairLanes lanes;
        for (std::int32_t& lane : lanes.v) lane = x;
        return lanes;
    }
    void add_products(const PairLanes& a, const PairLanes& b) {
        std::int16_t left[32], right[32];
        std::memcpy(left, a.v, sizeof left);
        std::memcpy(right, b.v, sizeof right);
        for (int l = 0; l < 16; ++l)
            v[l] += left[2 * l] * right[2 * l] + left[2 * l + 1] * right[2 * l + 1];
    }
    void store_scaled(float row, const float* col, float* out) const {
        for (int l = 0; l < 16; ++l) out[l] = static_cast<float>(v[l]) * row * col[l];
    }
#endif
};

}  // namespace

void int16_tile(const Int16Tile& tile) {
    int16_tile_of<PairLanes>(tile);
}

const char* int16_instructions() {
    if (has_vnni()) return "AVX512-VNNI";
#if defined(__AVX512BW__)
    return "AVX-512";
#elif defined(__AVX2__)
    return "AVX2";
#elif defined(__SSE2__)
    return "SSE2";
#else
    return "portable";
#endif
}

}  // namespace cliquesim
