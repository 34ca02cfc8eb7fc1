// bfloat16 as its bits, and numbers in fours, for code that CUDA and the host compile.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/host_device.hpp"

namespace cliquesim {

struct Bfloat16 {
    std::uint16_t bits;
};

// What a thread reads or writes at once.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
    T values[4];
};

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

}  // namespace cliquesim
