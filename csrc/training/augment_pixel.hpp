// One pixel of an augmented frame, made on its own: what augment.cpp does row by row, for CUDA.
// A test proves both equal.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim::training {

// What was drawn for one frame of a batch; see Changes.
struct FrameChange {
    std::int64_t frame;  // of the corpus
    std::int32_t other;  // of the batch: whose pixels replace the surroundings
    std::int32_t unused;
    float affine[6];
    float colour[6];
    float ellipse[2];
    float erase[4];
    float extent[2];  // shares of width and height that the subject takes
};
// training/_cuda_inputs.py writes it.
static_assert(sizeof(FrameChange) == 96 && offsetof(FrameChange, other) == 8 &&
              offsetof(FrameChange, affine) == 16 && offsetof(FrameChange, colour) == 40 &&
              offsetof(FrameChange, ellipse) == 64 && offsetof(FrameChange, erase) == 72 &&
              offsetof(FrameChange, extent) == 88);

struct Rgb {
    float values[3];
};

CLIQUESIM_HOST_DEVICE inline float clamped(float value) {
    return fminf(fmaxf(value, 0.0F), 1.0F);
}

// Of pixel i of `count`, in -1 to 1.
CLIQUESIM_HOST_DEVICE inline float pixel_centre(std::int32_t i, std::int32_t count) {
    return (static_cast<float>(i) + 0.5F) * (2.0F / static_cast<float>(count)) - 1.0F;
}

// Behind a frame lie this many bytes that may be read.
inline constexpr std::int64_t frame_padding = 9;

struct FrameView {
    const std::uint8_t* pixels;  // height x width x 3, aligned to words on the device
    std::int32_t height, width;

    CLIQUESIM_HOST_DEVICE float at(std::int32_t y, std::int32_t x, int channel) const {
        return static_cast<float>(pixels[(y * width + x) * 3 + channel]);
    }
};

// Byte `place` of a word.
CLIQUESIM_HOST_DEVICE inline float byte_of(std::uint32_t word, unsigned place) {
#if defined(__CUDA_ARCH__)
    // Conversions are slow: the byte becomes the last of 2^23.
    return __uint_as_float(__byte_perm(word, 0x4B000000U, 0x7440U + place)) - 8388608.0F;
#else
    return static_cast<float>(word >> 8U * place & 0xFFU);
#endif
}

// A pixel and the one behind it; behind the last of a row are other bytes.
struct PixelPair {
    float left[3], right[3];
};

CLIQUESIM_HOST_DEVICE inline PixelPair pixel_pair(const FrameView& frame, std::int32_t y,
                                                  std::int32_t x) {
    const auto first = static_cast<std::uint32_t>((y * frame.width + x) * 3);
#if defined(__CUDA_ARCH__)
    // Six bytes out of three words.
    const auto* words = reinterpret_cast<const std::uint32_t*>(frame.pixels) + first / 4;
    const std::uint32_t shift = first % 4 * 8, middle = words[1];
    const std::uint32_t four = __funnelshift_r(words[0], middle, shift);
    const std::uint32_t two = __funnelshift_r(middle, words[2], shift);
#else
    const std::uint8_t* bytes = frame.pixels + first;
    const std::uint32_t four = bytes[0] | std::uint32_t{bytes[1]} << 8U |
                               std::uint32_t{bytes[2]} << 16U | std::uint32_t{bytes[3]} << 24U;
    const std::uint32_t two = bytes[4] | std::uint32_t{bytes[5]} << 8U;
#endif
    return {{byte_of(four, 0), byte_of(four, 1), byte_of(four, 2)},
            {byte_of(four, 3), byte_of(two, 0), byte_of(two, 1)}};
}

CLIQUESIM_HOST_DEVICE inline Rgb copied_pixel(const FrameView& frame, bool mirrored, std::int32_t y,
                                              std::int32_t x) {
    const std::int32_t from = mirrored ? frame.width - 1 - x : x;
    Rgb pixel{};
    for (int c = 0; c < 3; ++c) pixel.values[c] = frame.at(y, from, c) * (1.0F / 255.0F);
    return pixel;
}

// Bilinear; pixels from outside repeat the border.
CLIQUESIM_HOST_DEVICE inline Rgb sampled_pixel(const FrameView& frame, const float* affine,
                                               std::int32_t row, std::int32_t column) {
    const float x = pixel_centre(column, frame.width), y = pixel_centre(row, frame.height);
    const float from_x = affine[1] * y + affine[2], from_y = affine[4] * y + affine[5];
    const auto columns = static_cast<float>(frame.width), rows = static_cast<float>(frame.height);
    const float at_x = ((affine[0] * x + from_x + 1.0F) * columns - 1.0F) * 0.5F;
    const float at_y = ((affine[3] * x + from_y + 1.0F) * rows - 1.0F) * 0.5F;
    const float px = fminf(fmaxf(at_x, 0.0F), columns - 1.0F);
    const float py = fminf(fmaxf(at_y, 0.0F), rows - 1.0F);
    // Behind the last column nothing counts: `right` is 0 there.
    const auto x0 = static_cast<std::int32_t>(px), y0 = static_cast<std::int32_t>(py);
    const std::int32_t y1 = y0 + 1 < frame.height ? y0 + 1 : y0;
    const float right = px - static_cast<float>(x0), down = py - static_cast<float>(y0);
    const float a = (1.0F - right) * (1.0F - down) * (1.0F / 255.0F);
    const float b = right * (1.0F - down) * (1.0F / 255.0F);
    const float c = (1.0F - right) * down * (1.0F / 255.0F);
    const float d = right * down * (1.0F / 255.0F);
    const PixelPair upper = pixel_pair(frame, y0, x0), lower = pixel_pair(frame, y1, x0);
    Rgb pixel{};
    for (int i = 0; i < 3; ++i)
        pixel.values[i] =
            a * upper.left[i] + b * upper.right[i] + c * lower.left[i] + d * lower.right[i];
    return pixel;
}

// `mean` is that of the frame after the gains of its channels, colour[0] to colour[2].
CLIQUESIM_HOST_DEVICE inline Rgb recoloured_pixel(Rgb pixel, const float* colour, float mean) {
    const float brightness = colour[3], contrast = colour[4], saturation = colour[5];
    const float base = mean - contrast * mean + brightness;
    float grey = 0;
    for (int c = 0; c < 3; ++c) {
        pixel.values[c] = pixel.values[c] * colour[c] * contrast + base;
        grey += pixel.values[c];
    }
    grey *= 1.0F / 3.0F;
    for (float& value : pixel.values) value = clamped((value - grey) * saturation + grey);
    return pixel;
}

// Share of the frame's own pixel at (x, y), both in -1 to 1; the rest is the surroundings'.
CLIQUESIM_HOST_DEVICE inline float own_share(const float* ellipse, float softness, float x,
                                             float y) {
    const float across = x / ellipse[0], down = y / ellipse[1];
    const float distance = sqrtf(across * across + down * down);
    return clamped((1.0F - distance) / fmaxf(softness, 1e-6F) + 0.5F);
}

CLIQUESIM_HOST_DEVICE inline bool is_erased(const float* edges, float x, float y) {
    return x >= edges[0] && x <= edges[1] && y >= edges[2] && y <= edges[3];
}

// What is left of a pixel at `centre` of an axis of which the subject takes `share`.
CLIQUESIM_HOST_DEVICE inline float fading(float share, float centre) {
    constexpr float steepness = 10;  // 1 / softness of fade_surroundings in training/backbones.py
    return share < 1.0F ? clamped((share - fabsf(centre)) * steepness + 1.0F) : 1.0F;
}

}  // namespace cliquesim::training
