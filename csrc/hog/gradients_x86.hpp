// Rows of gradients in AVX2 or AVX-512 instructions. Both work within 128-bit parts of a register:
// what is unpacked to wider integers in halves comes back in order when it is packed again.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "hog/gradients.hpp"

namespace cliquesim::hog {

inline __m256i two_parts(const std::uint8_t* low, const std::uint8_t* high) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(low))),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

inline void split_channels(const std::uint8_t* row, std::int64_t width, std::uint8_t* red,
                           std::uint8_t* green, std::uint8_t* blue) {
    constexpr std::int64_t pixels = 32, half = 48, quarter = 12;
    // Four pixels of a part: their reds, greens and blues, four bytes each.
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    std::int64_t x = 0;
    for (; 3 * (x + pixels) + 4 <= 3 * width; x += pixels) {  // the last part reads 4 bytes further
        __m256i v[4];
        for (int n = 0; n < 4; ++n) {
            const std::uint8_t* from = row + 3 * x + n * quarter;
            v[n] = _mm256_shuffle_epi8(two_parts(from, from + half), order);
        }
        const __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]);
        const __m256i low23 = _mm256_unpacklo_epi32(v[2], v[3]);
        const __m256i high01 = _mm256_unpackhi_epi32(v[0], v[1]);
        const __m256i high23 = _mm256_unpackhi_epi32(v[2], v[3]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(red + x),
                            _mm256_unpacklo_epi64(low01, low23));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(green + x),
                            _mm256_unpackhi_epi64(low01, low23));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(blue + x),
                            _mm256_unpacklo_epi64(high01, high23));
    }
    for (; x < width; ++x) {
        red[x] = row[3 * x];
        green[x] = row[3 * x + 1];
        blue[x] = row[3 * x + 2];
    }
}

// Half of a Wide, for AVX2 and for what is left of a row.
struct Half {
    using Int = __m256i;
    static constexpr std::int64_t bytes = 32;

    static Int load(const std::uint8_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const Int*>(from));
    }
    static void store(std::uint8_t* to, Int a) {
        _mm256_storeu_si256(reinterpret_cast<Int*>(to), a);
    }
    static Int repeat8(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
    static Int repeat16(int value) { return _mm256_set1_epi16(static_cast<short>(value)); }
    static Int repeat_part(__m128i part) { return _mm256_broadcastsi128_si256(part); }
    static Int low8(Int a, Int b) { return _mm256_unpacklo_epi8(a, b); }
    static Int high8(Int a, Int b) { return _mm256_unpackhi_epi8(a, b); }
    static Int low16(Int a, Int b) { return _mm256_unpacklo_epi16(a, b); }
    static Int high16(Int a, Int b) { return _mm256_unpackhi_epi16(a, b); }
    static Int low64(Int a, Int b) { return _mm256_unpacklo_epi64(a, b); }
    static Int high64(Int a, Int b) { return _mm256_unpackhi_epi64(a, b); }
    static Int pack16(Int a, Int b) { return _mm256_packs_epi16(a, b); }
    static Int shuffle8(Int a, Int index) { return _mm256_shuffle_epi8(a, index); }
    static Int sum_of_products8(Int a, Int b) { return _mm256_maddubs_epi16(a, b); }
    static Int sum_of_products16(Int a, Int b) { return _mm256_madd_epi16(a, b); }
    static Int high_product(Int a, Int b) { return _mm256_mulhi_epu16(a, b); }
    static Int absolute16(Int a) { return _mm256_abs_epi16(a); }

    // Where value > best: take value and pair.
    static void keep_larger(Int value, Int pair, Int& best, Int& best_pair) {
        best_pair = _mm256_blendv_epi8(best_pair, pair, _mm256_cmpgt_epi32(value, best));
        best = _mm256_max_epi32(best, value);
    }
    // count + 1 where a > b.
    static Int count_greater(Int count, Int a, Int b) {
        return _mm256_sub_epi16(count, _mm256_cmpgt_epi16(a, b));
    }
    // count - 1 where a > b.
    static Int discount_greater(Int count, Int a, Int b) {
        return _mm256_add_epi16(count, _mm256_cmpgt_epi16(a, b));
    }
    // upper[i] or, where dy < 0, lower[i], i = quadrant + 8 where the gradient points to the other
    // side.
    static Int look_up(Int quadrant, Int dx, Int dy, Int upper, Int lower) {
        const Int right = _mm256_cmpgt_epi8(dx, _mm256_setzero_si256());
        const Int other = _mm256_blendv_epi8(dx, right, dy);  // in the sign bit of every byte
        const Int eight = _mm256_and_si256(_mm256_srli_epi16(other, 4), repeat8(8));
        const Int index = _mm256_or_si256(quadrant, eight);
        return _mm256_blendv_epi8(shuffle8(upper, index), shuffle8(lower, index), dy);
    }
    static void store_roots(float* to, const Int (&squared)[4]) {
        __m256 v[4];
        for (int n = 0; n < 4; ++n) v[n] = _mm256_sqrt_ps(_mm256_cvtepi32_ps(squared[n]));
        // Part p of v[n] holds pixels 16 p + 4 n to 16 p + 4 n + 3.
        _mm256_storeu_ps(to, _mm256_permute2f128_ps(v[0], v[1], 0x20));
        _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(v[2], v[3], 0x20));
        _mm256_storeu_ps(to + 16, _mm256_permute2f128_ps(v[0], v[1], 0x31));
        _mm256_storeu_ps(to + 24, _mm256_permute2f128_ps(v[2], v[3], 0x31));
    }
};

#if defined(__AVX512BW__)

struct Wide {
    using Int = __m512i;
    static constexpr std::int64_t bytes = 64;

    static Int load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
    static void store(std::uint8_t* to, Int a) { _mm512_storeu_si512(to, a); }
    static Int repeat8(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
    static Int repeat16(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }
    static Int repeat_part(__m128i part) { return _mm512_broadcast_i32x4(part); }
    static Int low8(Int a, Int b) { return _mm512_unpacklo_epi8(a, b); }
    static Int high8(Int a, Int b) { return _mm512_unpackhi_epi8(a, b); }
    static Int low16(Int a, Int b) { return _mm512_unpacklo_epi16(a, b); }
    static Int high16(Int a, Int b) { return _mm512_unpackhi_epi16(a, b); }
    static Int low64(Int a, Int b) { return _mm512_unpacklo_epi64(a, b); }
    static Int high64(Int a, Int b) { return _mm512_unpackhi_epi64(a, b); }
    static Int pack16(Int a, Int b) { return _mm512_packs_epi16(a, b); }
    static Int shuffle8(Int a, Int index) { return _mm512_shuffle_epi8(a, index); }
    static Int sum_of_products8(Int a, Int b) { return _mm512_maddubs_epi16(a, b); }
    static Int sum_of_products16(Int a, Int b) { return _mm512_madd_epi16(a, b); }
    static Int high_product(Int a, Int b) { return _mm512_mulhi_epu16(a, b); }
    static Int absolute16(Int a) { return _mm512_abs_epi16(a); }

    static void keep_larger(Int value, Int pair, Int& best, Int& best_pair) {
        best_pair = _mm512_mask_mov_epi32(best_pair, _mm512_cmpgt_epi32_mask(value, best), pair);
        best = _mm512_max_epi32(best, value);
    }
    static Int count_greater(Int count, Int a, Int b) {
        return _mm512_mask_add_epi16(count, _mm512_cmpgt_epi16_mask(a, b), count, repeat16(1));
    }
    static Int discount_greater(Int count, Int a, Int b) {
        return _mm512_mask_sub_epi16(count, _mm512_cmpgt_epi16_mask(a, b), count, repeat16(1));
    }
    static Int look_up(Int quadrant, Int dx, Int dy, Int upper, Int lower) {
        const __mmask64 down = _mm512_movepi8_mask(dy), left = _mm512_movepi8_mask(dx);
        const __mmask64 right = _mm512_cmpgt_epi8_mask(dx, _mm512_setzero_si512());
        const __mmask64 other = (left & ~down) | (right & down);
        const Int index = _mm512_mask_add_epi8(quadrant, other, quadrant, repeat8(8));
        return _mm512_mask_shuffle_epi8(shuffle8(upper, index), down, lower, index);
    }
    static void store_roots(float* to, const Int (&squared)[4]) {
        __m512 v[4];
        for (int n = 0; n < 4; ++n) v[n] = _mm512_sqrt_ps(_mm512_cvtepi32_ps(squared[n]));
        // Part p of v[n] holds pixels 16 p + 4 n to 16 p + 4 n + 3.
        const __m512 a = _mm512_shuffle_f32x4(v[0], v[1], 0x44);
        const __m512 b = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
        const __m512 c = _mm512_shuffle_f32x4(v[0], v[1], 0xEE);
        const __m512 d = _mm512_shuffle_f32x4(v[2], v[3], 0xEE);
        _mm512_storeu_ps(to, _mm512_shuffle_f32x4(a, b, 0x88));
        _mm512_storeu_ps(to + 16, _mm512_shuffle_f32x4(a, b, 0xDD));
        _mm512_storeu_ps(to + 32, _mm512_shuffle_f32x4(c, d, 0x88));
        _mm512_storeu_ps(to + 48, _mm512_shuffle_f32x4(c, d, 0xDD));
    }
};

#endif

// Pairs (dx, dy) of 16-bit integers, a quarter of every part's pixels in each register.
template <typename L>
inline void differences(const Planes& plane, std::int64_t x, typename L::Int (&pairs)[4]) {
    const typename L::Int sign = L::repeat16(-255);  // bytes 1 and -1: 0xFF01
    const typename L::Int right = L::load(plane.here + x + 1), left = L::load(plane.here + x - 1);
    const typename L::Int below = L::load(plane.below + x), above = L::load(plane.above + x);
    const typename L::Int dx_low = L::sum_of_products8(L::low8(right, left), sign);
    const typename L::Int dx_high = L::sum_of_products8(L::high8(right, left), sign);
    const typename L::Int dy_low = L::sum_of_products8(L::low8(below, above), sign);
    const typename L::Int dy_high = L::sum_of_products8(L::high8(below, above), sign);
    pairs[0] = L::low16(dx_low, dy_low);
    pairs[1] = L::high16(dx_low, dy_low);
    pairs[2] = L::low16(dx_high, dy_high);
    pairs[3] = L::high16(dx_high, dy_high);
}

// Bins of (|dx|, |dy|), 0 to 4; see orientation_bin.
template <typename L>
inline typename L::Int quadrant_bins(typename L::Int dx, typename L::Int dy) {
    const typename L::Int a = L::absolute16(dx), b = L::absolute16(dy);
    typename L::Int bins = L::repeat16(2);
    bins = L::count_greater(bins, b, L::high_product(a, L::repeat16(tan10)));
    bins = L::count_greater(bins, b, L::high_product(a, L::repeat16(tan30)));
    bins = L::discount_greater(bins, a, L::high_product(b, L::repeat16(tan40)));
    return L::discount_greater(bins, a, L::high_product(b, L::repeat16(tan20)));
}

template <typename L>
inline typename L::Int orientation_slots(const typename L::Int (&pairs)[4]) {
    // Of four pairs: the dx in the lower half of a part, the dy in the upper half.
    const typename L::Int order =
        L::repeat_part(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    typename L::Int dx[2], dy[2];
    for (int half = 0; half < 2; ++half) {
        const typename L::Int first = L::shuffle8(pairs[2 * half], order);
        const typename L::Int second = L::shuffle8(pairs[2 * half + 1], order);
        dx[half] = L::low64(first, second);
        dy[half] = L::high64(first, second);
    }
    const typename L::Int bins =
        L::pack16(quadrant_bins<L>(dx[0], dy[0]), quadrant_bins<L>(dx[1], dy[1]));
    // Slots of bins q and, from the eighth on, 9 - q; below the horizon 9 + q and 18 - q.
    const auto tables = [](int b) {
        const auto slot = [b](int q) {
            return static_cast<char>(slot_of(static_cast<std::uint8_t>((b + q) % 18)));
        };
        return L::repeat_part(_mm_setr_epi8(slot(0), slot(1), slot(2), slot(3), slot(4), 0, 0, 0,
                                            slot(9), slot(8), slot(7), slot(6), slot(5), 0, 0, 0));
    };
    // Saturation keeps the signs and zero, which are all that counts now.
    return L::look_up(bins, L::pack16(dx[0], dx[1]), L::pack16(dy[0], dy[1]), tables(0), tables(9));
}

template <int channels, typename L>
inline void gradient_step(const Planes* planes, std::int64_t x, float* magnitude,
                          std::uint8_t* slots) {
    typename L::Int pairs[4], squared[4];
    differences<L>(planes[0], x, pairs);
    for (int n = 0; n < 4; ++n) squared[n] = L::sum_of_products16(pairs[n], pairs[n]);
    for (int c = 1; c < channels; ++c) {  // the earlier channel wins a tie
        typename L::Int other[4];
        differences<L>(planes[c], x, other);
        for (int n = 0; n < 4; ++n)
            L::keep_larger(L::sum_of_products16(other[n], other[n]), other[n], squared[n],
                           pairs[n]);
    }
    L::store(slots + x, orientation_slots<L>(pairs));
    L::store_roots(magnitude + x, squared);
}

template <int channels>
inline void gradient_row(const Planes* planes, std::int64_t width, float* magnitude,
                         std::uint8_t* slots) {
    std::int64_t x = 0;
#if defined(__AVX512BW__)
    for (; x + Half::bytes < width; x += Wide::bytes)
        gradient_step<channels, Wide>(planes, x, magnitude, slots);
#endif
    for (; x < width; x += Half::bytes) gradient_step<channels, Half>(planes, x, magnitude, slots);
}

}  // namespace cliquesim::hog
