// First half of HOG: per pixel the strongest channel's gradient, its magnitude and orientation bin.
#pragma once

#include <cstdint>
#include <vector>

#include "hog/hog.hpp"

namespace cliquesim::hog {

inline constexpr int num_orientations = 18;

// An orientation is kept as the slot of its four votes, in steps of `slot_floats` floats: a step
// that address arithmetic has for free.
inline constexpr std::int64_t slot_floats = 2;

inline constexpr std::uint8_t slot_of(std::uint8_t orientation) {
    return static_cast<std::uint8_t>(2 * orientation);
}

// Signed orientation bin round(angle / 20 degrees) of an integer gradient, |dx|, |dy| <= 255.
// P/Q is the smallest fraction above tan(10, 30, 50, 70 degrees) with P, Q <= 255, so that
// b / a > tan exactly if Q b >= P a, without rounding. Straight up and
// down are ties, which the first of the equally good bins (80 and 260 degrees) wins. A zero
// gradient gets some bin, with weight 0.
inline std::uint8_t orientation_bin(std::int32_t dx, std::int32_t dy) {
    const std::int32_t a = dx < 0 ? -dx : dx;
    const std::int32_t b = dy < 0 ? -dy : dy;
    std::int32_t quadrant = 0;  // 0 to 4: bin of (|dx|, |dy|)
    quadrant += 17 * b >= 3 * a ? 1 : 0;
    quadrant += 168 * b >= 97 * a ? 1 : 0;
    quadrant += 73 * b >= 87 * a ? 1 : 0;
    quadrant += 4 * b >= 11 * a ? 1 : 0;
    const std::int32_t upper = dx < 0 ? 9 - quadrant : quadrant;
    const std::int32_t lower = dx > 0 ? 18 - quadrant : 9 + quadrant;
    const std::int32_t bin = dy < 0 ? lower : upper;
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
    GradientRows(std::int64_t width, int channels, std::int64_t extended_width, std::int64_t before,
                 std::int64_t block_width);

    void start_frame(const std::uint8_t* frame);
    // Gradient row y, 1 <= y <= height - 2; rows must be asked for in rising order.
    void compute(std::int64_t y);

    const float* magnitude() const { return magnitude_.data() + start_; }
    const std::uint8_t* slots() const { return slots_.data() + start_; }

  private:
    void load_row(std::int64_t y);
    std::uint8_t* plane(std::int64_t y, int channel) {
        return planes_.data() + ((y % 3) * channels_ + channel) * plane_stride_ + 1;
    }

    std::int64_t width_, extended_width_, end_, origin_, start_, plane_stride_;
    int channels_;
    const std::uint8_t* frame_ = nullptr;
    std::int64_t loaded_ = 0;           // rows of the frame that were split into planes
    std::vector<std::uint8_t> planes_;  // the last three rows, one plane per channel
    std::vector<float> magnitude_;
    std::vector<std::uint8_t> slots_;
};

}  // namespace cliquesim::hog
