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

// Central differences of a step from `begin` on; the strongest channel, the earlier one if tied.
template <int channels>
inline void strongest_gradient(const Planes* planes, std::int64_t begin,
                               std::int32_t* __restrict dx, std::int32_t* __restrict dy,
                               std::int32_t* __restrict squared) {
    for (std::int64_t x = begin; x < begin + Planes::step; ++x) {
        std::int32_t best_x = planes[0].here[x + 1] - planes[0].here[x - 1];
        std::int32_t best_y = planes[0].below[x] - planes[0].above[x];
        std::int32_t best = best_x * best_x + best_y * best_y;
        for (int c = 1; c < channels; ++c) {
            const std::int32_t gx = planes[c].here[x + 1] - planes[c].here[x - 1];
            const std::int32_t gy = planes[c].below[x] - planes[c].above[x];
            const std::int32_t value = gx * gx + gy * gy;
            const bool stronger = value > best;
            best_x = stronger ? gx : best_x;
            best_y = stronger ? gy : best_y;
            best = stronger ? value : best;
        }
        dx[x - begin] = best_x;
        dy[x - begin] = best_y;
        squared[x - begin] = best;
    }
}

template <int channels>
inline void gradient_row(const Planes* planes, std::int64_t width, float* __restrict magnitude,
                         std::uint8_t* __restrict slots) {
    std::int32_t dx[Planes::step], dy[Planes::step], squared[Planes::step];
    for (std::int64_t begin = 0; begin < width; begin += Planes::step) {
        strongest_gradient<channels>(planes, begin, dx, dy, squared);
        for (std::int64_t k = 0; k < Planes::step; ++k)
            slots[begin + k] = slot_of(orientation_bin(dx[k], dy[k]));
        for (std::int64_t k = 0; k < Planes::step; ++k)
            magnitude[begin + k] = std::sqrt(static_cast<float>(squared[k]));
    }
}

}  // namespace cliquesim::hog
