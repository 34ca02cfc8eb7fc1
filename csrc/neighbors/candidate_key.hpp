// Score and code of a candidate in one integer: greater is better, by score first, then by smaller
// code. Tiles come in any order, but the k greatest of a set of keys do not depend on it. 0 is less
// than every key. Shared by the CPU, the CUDA kernels and the test that runs these on the host.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "common/host_device.hpp"

namespace cliquesim {

inline constexpr float infinite_score = std::numeric_limits<float>::infinity();
inline constexpr float no_score = std::numeric_limits<float>::quiet_NaN();

// Twice the row's index, and 1 more for its mirror image.
CLIQUESIM_HOST_DEVICE inline std::uint32_t candidate_code(std::int64_t index, bool flipped) {
    return static_cast<std::uint32_t>(index) << 1 | (flipped ? 1u : 0u);
}

CLIQUESIM_HOST_DEVICE inline std::uint32_t ordered_score(float score) {
    score += 0.0f;  // -0 becomes +0
    std::uint32_t bits;
    std::memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

CLIQUESIM_HOST_DEVICE inline float score_of(std::uint32_t ordered) {
    const std::uint32_t bits = ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
    float score;
    std::memcpy(&score, &bits, sizeof score);
    return score;
}

CLIQUESIM_HOST_DEVICE inline std::uint64_t candidate_key(float score, std::uint32_t code) {
    return static_cast<std::uint64_t>(ordered_score(score)) << 32 | ~code;
}

CLIQUESIM_HOST_DEVICE inline float key_score(std::uint64_t key) {
    return score_of(static_cast<std::uint32_t>(key >> 32));
}

CLIQUESIM_HOST_DEVICE inline std::uint32_t key_code(std::uint64_t key) {
    return ~static_cast<std::uint32_t>(key);
}

}  // namespace cliquesim
