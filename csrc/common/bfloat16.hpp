// bfloat16 as its bits, and numbers in pieces, for code that CUDA and the host compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/host_device.hpp"

namespace cliquesim {

struct Bfloat16 {
    std::uint16_t bits;
};

// What a thread reads or writes at once.
CLIQUESIM_HOST_DEVICE constexpr std::size_t piece_alignment(std::size_t bytes) {
    const std::size_t power = bytes & (~bytes + 1);
    return power < 16 ? power : 16;
}

template <typename T, int count>
struct alignas(piece_alignment(count * sizeof(T))) Piece {
    T values[count];
};

template <typename T>
using Four = Piece<T, 4>;

CLIQUESIM_HOST_DEVICE inline float to_float(float value) {
    return value;
}

CLIQUESIM_HOST_DEVICE inline float to_float(Bfloat16 value) {
    const std::uint32_t bits = std::uint32_t{value.bits} << 16U;
    float wide = 0;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

template <typename T>
CLIQUESIM_HOST_DEVICE T from_float(float value);

template <>
CLIQUESIM_HOST_DEVICE inline float from_float<float>(float value) {
    return value;
}

// To the nearest, the even one at ties.
template <>
CLIQUESIM_HOST_DEVICE inline Bfloat16 from_float<Bfloat16>(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    Bfloat16 rounded{};
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
    return rounded;
#else
    if (value != value) return {0x7FC0};
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U)};
#endif
}

// Two rounded numbers in one word, the first below: one instruction where there is such.
CLIQUESIM_HOST_DEVICE inline std::uint32_t rounded_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    std::uint32_t pair = 0;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#else
    return std::uint32_t{from_float<Bfloat16>(first).bits} |
           std::uint32_t{from_float<Bfloat16>(second).bits} << 16U;
#endif
}

// The numbers of such a word.
CLIQUESIM_HOST_DEVICE inline void spread_pair(std::uint32_t pair, float* out) {
    const std::uint32_t bits[2] = {pair << 16U, pair & 0xFFFF0000U};
    std::memcpy(out, bits, sizeof bits);
}

// `count` numbers T, read as words, as floats; a multiple of two.
template <typename T, int count>
CLIQUESIM_HOST_DEVICE void to_floats(const std::uint32_t* words, float* out) {
    if constexpr (sizeof(T) == sizeof(float))
        std::memcpy(out, words, count * sizeof(float));
    else
        for (int i = 0; i < count / 2; ++i) spread_pair(words[i], out + 2 * i);
}

// And back, `count` floats.
template <int count>
CLIQUESIM_HOST_DEVICE void from_floats(const float* values, Bfloat16* out) {
    std::uint32_t pairs[count / 2];
    for (int i = 0; i < count / 2; ++i) pairs[i] = rounded_pair(values[2 * i], values[2 * i + 1]);
    std::memcpy(out, pairs, sizeof pairs);
}

template <int count>
CLIQUESIM_HOST_DEVICE void from_floats(const float* values, float* out) {
    for (int i = 0; i < count; ++i) out[i] = values[i];
}

}  // namespace cliquesim
