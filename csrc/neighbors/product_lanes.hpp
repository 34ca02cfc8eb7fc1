// Sixteen products at a time, in whatever instructions this level has.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace cliquesim {

// One multiply-add per lane, fused where the level has it.
struct FloatLanes {
#if defined(__AVX512F__)
    __m512 v;
    static FloatLanes zero() { return {_mm512_setzero_ps()}; }
    static FloatLanes load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static FloatLanes broadcast(float x) { return {_mm512_set1_ps(x)}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    FloatLanes operator+(FloatLanes o) const { return {_mm512_add_ps(v, o.v)}; }
    void add_product(FloatLanes a, FloatLanes b) { v = _mm512_fmadd_ps(a.v, b.v, v); }
#elif defined(__AVX2__) && defined(__FMA__)
    __m256 v, w;
    static FloatLanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static FloatLanes load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    static FloatLanes broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
    void store(float* p) const {
        _mm256_storeu_ps(p, v);
        _mm256_storeu_ps(p + 8, w);
    }
    FloatLanes operator+(FloatLanes o) const {
        return {_mm256_add_ps(v, o.v), _mm256_add_ps(w, o.w)};
    }
    void add_product(FloatLanes a, FloatLanes b) {
        v = _mm256_fmadd_ps(a.v, b.v, v);
        w = _mm256_fmadd_ps(a.w, b.w, w);
    }
#else
    typedef float Four __attribute__((vector_size(16)));
    Four v[4];
    static FloatLanes zero() { return broadcast(0.0f); }
    static FloatLanes load(const float* p) {
        FloatLanes lanes;
        std::memcpy(lanes.v, p, sizeof lanes.v);
        return lanes;
    }
    static FloatLanes broadcast(float x) {
        const Four four{x, x, x, x};
        return {{four, four, four, four}};
    }
    void store(float* p) const { std::memcpy(p, v, sizeof v); }
    FloatLanes operator+(FloatLanes o) const {
        return {{v[0] + o.v[0], v[1] + o.v[1], v[2] + o.v[2], v[3] + o.v[3]}};
    }
    void add_product(FloatLanes a, FloatLanes b) {
        for (int part = 0; part < 4; ++part) v[part] += a.v[part] * b.v[part];
    }
#endif
};

// Register blocks: rows and panels of sixteen columns at a time.
#if defined(__AVX512F__)
inline constexpr int micro_rows = 8, micro_panels = 2;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int micro_rows = 4, micro_panels = 1;
#else
inline constexpr int micro_rows = 2, micro_panels = 1;
#endif

// out[c * 16 + r] = rows[r][c] for c in [0, 4), any 32-bit type; r in [0, 16).
template <typename T>
inline void transpose_four(const T* const* rows, std::int64_t col, T* out) {
    static_assert(sizeof(T) == 4);
#if defined(__SSE2__)
    for (int r = 0; r < 16; r += 4) {
        const auto load = [&](int k) {
            return _mm_loadu_ps(reinterpret_cast<const float*>(rows[r + k] + col));
        };
        __m128 a = load(0), b = load(1), c = load(2), d = load(3);
        _MM_TRANSPOSE4_PS(a, b, c, d);
        float* to = reinterpret_cast<float*>(out) + r;
        _mm_storeu_ps(to, a);
        _mm_storeu_ps(to + 16, b);
        _mm_storeu_ps(to + 32, c);
        _mm_storeu_ps(to + 48, d);
    }
#else
    for (int r = 0; r < 16; ++r)
        for (int c = 0; c < 4; ++c) std::memcpy(out + c * 16 + r, rows[r] + col + c, sizeof(T));
#endif
}

// Sixteen rows side by side: out[d * 16 + r] = rows[r][d] for d in [begin, end).
template <typename T>
inline void pack_panel(const T* const* rows, std::int64_t begin, std::int64_t end, T* out) {
    std::int64_t d = begin;
    for (; d + 4 <= end; d += 4, out += 64) transpose_four(rows, d, out);
    for (; d < end; ++d, out += 16)
        for (int r = 0; r < 16; ++r) std::memcpy(out + r, rows[r] + d, sizeof(T));
}

}  // namespace cliquesim
