// The orientation of a gradient, decided in integers; shared by the CPU and the CUDA kernels.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim::hog {

inline constexpr int num_orientations = 18;

// floor(a tan), a <= 255, is the upper half of a 16-bit product with these factors, 2^16 times the
// tangents of 10, 20, 30 and 40 degrees. A tangent is irrational: b > a tan exactly if
// b > floor(a tan), without rounding.
inline constexpr std::uint16_t tan10 = 11556, tan20 = 23853, tan30 = 37837, tan40 = 54991;

// Signed orientation bin round(angle / 20 degrees) of an integer gradient, |dx|, |dy| <= 255.
// Straight up and down are ties, which the first of the equally good bins (80 and 260 degrees)
// wins. A zero gradient gets some bin, with weight 0.
CLIQUESIM_HOST_DEVICE inline std::uint8_t orientation_bin(std::int16_t dx, std::int16_t dy) {
    const auto a = static_cast<std::uint16_t>(dx < 0 ? -dx : dx);
    const auto b = static_cast<std::uint16_t>(dy < 0 ? -dy : dy);
    const auto exceeds = [](std::uint16_t p, std::uint16_t q, std::uint16_t tangent) {
        const auto product = static_cast<std::uint32_t>(q) * tangent;
        return static_cast<std::int16_t>(p > static_cast<std::uint16_t>(product >> 16) ? 1 : 0);
    };
    // Bin of (a, b), 0 to 4; beyond 45 degrees seen from the other axis.
    const auto quadrant =
        static_cast<std::int16_t>(2 + exceeds(b, a, tan10) + exceeds(b, a, tan30) -
                                  exceeds(a, b, tan40) - exceeds(a, b, tan20));
    const bool other_side = dy < 0 ? dx > 0 : dx < 0;
    const auto half = static_cast<std::int16_t>(other_side ? 9 - quadrant : quadrant);
    const auto bin = static_cast<std::int16_t>(dy < 0 ? half + 9 : half);
    return static_cast<std::uint8_t>(bin == num_orientations ? 0 : bin);
}

}  // namespace cliquesim::hog
