// First half of HOG: per pixel the strongest channel's gradient, its magnitude and orientation bin.
#pragma once

#include <cstdint>

#include "common/vectors.hpp"
#include "hog/hog.hpp"
#include "hog/orientation.hpp"

namespace cliquesim::hog {

// An orientation is kept as the slot of its four votes, in steps of `slot_floats` floats: a step
// that address arithmetic has for free.
inline constexpr std::int64_t slot_floats = 2;

inline constexpr std::uint8_t slot_of(std::uint8_t orientation) {
    return static_cast<std::uint8_t>(2 * orientation);
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
