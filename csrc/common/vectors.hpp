// Float vectors of the compiler (GCC, Clang): four lanes, and as many as a register of this level.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace cliquesim {

using Quad = float __attribute__((vector_size(16)));

#if defined(__AVX512F__)
inline constexpr std::int64_t register_lanes = 16;
#elif defined(__AVX__)
inline constexpr std::int64_t register_lanes = 8;
#else
inline constexpr std::int64_t register_lanes = 4;
#endif
using Register = float __attribute__((vector_size(register_lanes * sizeof(float))));

// Zeros that start at a cache line, so that vectors at multiples of their size do not straddle two.
template <typename T>
class AlignedArray {
  public:
    explicit AlignedArray(std::int64_t size)
        : size_(size), lines_(static_cast<std::size_t>((size + per_line - 1) / per_line)) {}

    std::int64_t size() const { return size_; }
    T* data() { return lines_.data()->values; }
    const T* data() const { return lines_.data()->values; }

  private:
    static constexpr std::int64_t per_line = 64 / sizeof(T);
    struct alignas(64) Line {
        T values[per_line];
    };
    std::int64_t size_;
    std::vector<Line> lines_;
};

template <typename V = Register>
inline V load(const float* from) {
    V value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

template <typename V>
inline void store(float* to, V value) {
    std::memcpy(to, &value, sizeof(value));
}

inline Register smaller(Register a, Register b) {
#if defined(__AVX512F__)
    return _mm512_min_ps(a, b);  // GCC makes a comparison and a blend of the line below
#else
    return a < b ? a : b;
#endif
}

// Lanes of a (0 to 3) and b (4 to 7).
template <int i, int j, int k, int l>
inline Quad pick(Quad a, Quad b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, i, j, k, l);
#else
    using Index = std::int32_t __attribute__((vector_size(16)));
    return __builtin_shuffle(a, b, Index{i, j, k, l});
#endif
}

inline void transpose(Quad& a, Quad& b, Quad& c, Quad& d) {
    const Quad ab = pick<0, 4, 1, 5>(a, b), ab2 = pick<2, 6, 3, 7>(a, b);
    const Quad cd = pick<0, 4, 1, 5>(c, d), cd2 = pick<2, 6, 3, 7>(c, d);
    a = pick<0, 1, 4, 5>(ab, cd);
    b = pick<2, 3, 6, 7>(ab, cd);
    c = pick<0, 1, 4, 5>(ab2, cd2);
    d = pick<2, 3, 6, 7>(ab2, cd2);
}

}  // namespace cliquesim
