// Rows of gradients as plain loops over contiguous integers, which compilers vectorise.
#pragma once

#include <cmath>
#include <cstdint>

#include "hog/gradients.hpp"

namespace cliquesim::hog {

inline void split_channels(const std::uint8_t* __restrict row, std::int64_t width,
                           std::uint8_t* __restrict red, std::uint8_t* __restrict green,
                           std::uint8_t* __restrict blue) {
    for (std::int64_t x = 0; x < width; ++x) {
        red[x] = row[3 * x];
        green[x] = row[3 * x + 1];
        blue[x] = row[3 * x + 2];
    }
}

// A step of pixels. 16-bit integers wherever they suffice: they have the cheapest products.
struct Step {
    std::int16_t dx[Planes::step], dy[Planes::step];
    std::int32_t squared[Planes::step];
};

// Central differences from pixel x on.
inline void differences(const Planes& plane, std::int64_t x, Step& out) {
    for (std::int64_t k = 0; k < Planes::step; ++k) {
        const auto dx = static_cast<std::int16_t>(plane.here[x + k + 1] - plane.here[x + k - 1]);
        const auto dy = static_cast<std::int16_t>(plane.below[x + k] - plane.above[x + k]);
        out.dx[k] = dx;
        out.dy[k] = dy;
        out.squared[k] = dx * dx + dy * dy;
    }
}

// The stronger gradient of two; `best` if tied.
inline void keep_stronger(const Step& other, Step& best) {
    for (std::int64_t k = 0; k < Planes::step; ++k) {
        const bool stronger = other.squared[k] > best.squared[k];
        best.dx[k] = stronger ? other.dx[k] : best.dx[k];
        best.dy[k] = stronger ? other.dy[k] : best.dy[k];
        best.squared[k] = stronger ? other.squared[k] : best.squared[k];
    }
}

inline void orientation_slots(const Step& step, std::uint8_t* __restrict slots) {
    for (std::int64_t k = 0; k < Planes::step; ++k)
        slots[k] = slot_of(orientation_bin(step.dx[k], step.dy[k]));
}

template <int channels>
inline void gradient_row(const Planes* planes, std::int64_t width, float* __restrict magnitude,
                         std::uint8_t* __restrict slots) {
    Step best, other;
    for (std::int64_t x = 0; x < width; x += Planes::step) {
        differences(planes[0], x, best);
        for (int c = 1; c < channels; ++c) {
            differences(planes[c], x, other);
            keep_stronger(other, best);
        }
        orientation_slots(best, slots + x);
        for (std::int64_t k = 0; k < Planes::step; ++k)
            magnitude[x + k] = std::sqrt(static_cast<float>(best.squared[k]));
    }
}

}  // namespace cliquesim::hog
