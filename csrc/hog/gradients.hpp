// First half of HOG: per pixel the strongest channel's gradient, its magnitude and orientation bin.
#pragma once

#include <cstdint>

#include "common/vectors.hpp"
#include "hog/hog.hpp"

namespace cliquesim::hog {

inline constexpr int num_orientations = 18;

// An orientation is kept as the slot of its four votes, in steps of `slot_floats` floats: a step
// that address arithmetic has for free.
inline constexpr std::int64_t slot_floats = 2;

inline constexpr std::uint8_t slot_of(std::uint8_t orientation) {
    return static_cast<std::uint8_t>(2 * orientation);
}

// floor(a tan), a <= 255, is the upper half of a 16-bit product with these factors, 2^16 times the
// tangents of 10, 20, 30 and 40 degrees. A tangent is irrational: b > a tan exactly if
// b > floor(a tan), without rounding.
inline constexpr std::uint16_t tan10 = 11556, tan20 = 23853, tan30 = 37837, tan40 = 54991;

// Signed orientation bin round(angle / 20 degrees) of an integer gradient, |dx|, |dy| <= 255.
// Straight up and down are ties, which the first of the equally good bins (80 and 260 degrees)
// wins. A zero gradient gets some bin, with weight 0.
inline std::uint8_t orientation_bin(std::int16_t dx, std::int16_t dy) {
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

// Three rows of one channel. The pixel before the first exists, and those up to a whole `step`.
struct Planes {
    static constexpr std::int64_t step = 64;
    const std::uint8_t *above, *here, *below;
};

// Gradients of one frame, row by row, for the pixels of all blocks (see CellVotes).
class GradientRows {
  public:
    // Rows are extended to `extended_width` by repeating the last gradient (voc-release's rule for
    // widths that are no multiple of the cell size); the first and the last pixel have none.
    // Output starts at x = -before and has `block_width` pixels, 0 outside the frame.
    GradientRows(const Frames& frames, std::int64_t extended_width, std::int64_t before,
                 std::int64_t block_width);

    void start_frame(const std::uint8_t* frame);
    // Gradient row y, 1 <= y <= height - 2; rows must be asked for in rising order.
    void compute(std::int64_t y);

    const float* magnitude() const { return magnitude_.data() + start_; }
    const std::uint8_t* slots() const { return slots_.data() + start_; }

  private:
    static constexpr std::int64_t margin = 64;  // before x = 0, so that a row starts a cache line
    static constexpr std::int64_t rows_kept = 4;

    void load_row(std::int64_t y);
    std::uint8_t* plane(std::int64_t y, int channel) {
        return planes_.data() + ((y % rows_kept) * channels_ + channel) * plane_stride_ + margin;
    }

    std::int64_t height_, width_, extended_width_, end_, origin_, start_, plane_stride_;
    int channels_;
    const std::uint8_t* frame_ = nullptr;
    std::int64_t loaded_ = 0;  // rows of the frame that were split into planes
    AlignedArray<std::uint8_t> planes_;
    AlignedArray<float> magnitude_;
    AlignedArray<std::uint8_t> slots_;
};

}  // namespace cliquesim::hog
