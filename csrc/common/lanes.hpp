// Sixteen values against sixteen limits at a time, in whatever instructions this level has.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace cliquesim {

inline constexpr std::int64_t lanes = 16;

// Bit l is set unless values[l] > max(limit, limits[l]): also where a value is NaN.
template <typename S, typename V>
inline std::uint32_t not_above(const S* values, const V* limits, V limit) {
    std::uint32_t mask = 0;
    for (std::int64_t l = 0; l < lanes; ++l) {
        const V bound = limits[l] > limit ? limits[l] : limit;
        mask |= static_cast<std::uint32_t>(!(static_cast<V>(values[l]) > bound)) << l;
    }
    return mask;
}

#if defined(__AVX512F__)

inline std::uint32_t not_above(__m512 values, const float* limits, float limit) {
    const __m512 bound = _mm512_max_ps(_mm512_loadu_ps(limits), _mm512_set1_ps(limit));
    return _mm512_cmp_ps_mask(values, bound, _CMP_NGT_UQ);
}

inline std::uint32_t not_above(const float* values, const float* limits, float limit) {
    return not_above(_mm512_loadu_ps(values), limits, limit);
}

inline std::uint32_t not_above(const std::uint16_t* values, const float* limits, float limit) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
    return not_above(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(codes)), limits, limit);
}

inline std::uint32_t not_above(const double* values, const double* limits, double limit) {
    std::uint32_t mask = 0;
    for (int half = 0; half < 2; ++half) {
        const __m512d bound =
            _mm512_max_pd(_mm512_loadu_pd(limits + 8 * half), _mm512_set1_pd(limit));
        const auto part =
            _mm512_cmp_pd_mask(_mm512_loadu_pd(values + 8 * half), bound, _CMP_NGT_UQ);
        mask |= static_cast<std::uint32_t>(part) << (8 * half);
    }
    return mask;
}

#elif defined(__AVX2__)

inline std::uint32_t not_above(__m256 values, const float* limits, float limit) {
    const __m256 bound = _mm256_max_ps(_mm256_loadu_ps(limits), _mm256_set1_ps(limit));
    return static_cast<std::uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(values, bound, _CMP_NGT_UQ)));
}

inline std::uint32_t not_above(const float* values, const float* limits, float limit) {
    return not_above(_mm256_loadu_ps(values), limits, limit) |
           not_above(_mm256_loadu_ps(values + 8), limits + 8, limit) << 8;
}

inline std::uint32_t not_above(const double* values, const double* limits, double limit) {
    std::uint32_t mask = 0;
    for (int part = 0; part < 4; ++part) {
        const __m256d bound =
            _mm256_max_pd(_mm256_loadu_pd(limits + 4 * part), _mm256_set1_pd(limit));
        const __m256d hit = _mm256_cmp_pd(_mm256_loadu_pd(values + 4 * part), bound, _CMP_NGT_UQ);
        mask |= static_cast<std::uint32_t>(_mm256_movemask_pd(hit)) << (4 * part);
    }
    return mask;
}

#endif

}  // namespace cliquesim
