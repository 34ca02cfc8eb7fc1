// UoCTTI HOG (Felzenszwalb et al. 2010, the rules of voc-release): 31 numbers per cell.
#pragma once

#include <cstdint>

#include "common/context.hpp"

namespace cliquesim::hog {

// 18 signed orientations, 9 unsigned ones, 4 texture energies.
inline constexpr int num_channels = 31;

inline constexpr float norm_epsilon = 1e-4F;
// The mean of four clipped values is half of it in voc-release: everything is halved from the
// start.
inline constexpr float half_clip = 0.1F;
inline constexpr float texture_weight = 2 * 0.2357F;

// Contiguous frames: count x height x width x channels (1 grey, 3 RGB).
struct Frames {
    const std::uint8_t* data = nullptr;
    std::int64_t count = 0;
    std::int64_t height = 0;
    std::int64_t width = 0;
    int channels = 3;
};

// Cells along a side of `pixels`: rounded to nearest, halves up. The two outer ones only serve to
// normalise, so a descriptor has two fewer.
inline std::int64_t cells_along(std::int64_t pixels, std::int64_t cell_size) {
    return (2 * pixels + cell_size) / (2 * cell_size);
}

// Writes count x (cell rows - 2) x (cell columns - 2) x 31 floats to `features`.
// O(pixels) per frame; frames are spread over the threads.
void describe(const Frames& frames, std::int64_t cell_size, float* features,
              const Context& context);

}  // namespace cliquesim::hog
