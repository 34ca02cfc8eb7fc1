#include "hog/gradients.hpp"

#include <algorithm>
#include <cmath>

#if defined(__AVX2__)
#include "hog/gradients_x86.hpp"
#else
#include "hog/gradients_plain.hpp"
#endif

namespace cliquesim::hog {

namespace {

// Rows are padded to whole steps, so that no pass has a scalar tail.
std::int64_t padded(std::int64_t width) {
    return (width + Planes::step - 1) / Planes::step * Planes::step;
}

}  // namespace

GradientRows::GradientRows(const Frames& frames, std::int64_t extended_width, std::int64_t before,
                           std::int64_t block_width)
    : height_(frames.height),
      width_(frames.width),
      extended_width_(extended_width),
      end_(block_width - before),
      origin_(padded(before)),
      start_(origin_ - before),
      plane_stride_(margin + padded(width_ + 1)),
      channels_(frames.channels),
      planes_(rows_kept * channels_ * plane_stride_ + 1),
      magnitude_(origin_ + std::max(padded(width_), end_)),
      slots_(magnitude_.size()) {}

void GradientRows::start_frame(const std::uint8_t* frame) {
    frame_ = frame;
    loaded_ = 0;
}

void GradientRows::load_row(std::int64_t y) {
    const std::uint8_t* row = frame_ + y * width_ * channels_;
    if (channels_ == 3)
        split_channels(row, width_, plane(y, 0), plane(y, 1), plane(y, 2));
    else
        std::copy_n(row, width_, plane(y, 0));
}

void GradientRows::compute(std::int64_t y) {
    // One row ahead: what was just stored in narrow pieces is slow to load in wide ones.
    for (; loaded_ < std::min(y + 3, height_); ++loaded_) load_row(loaded_);
    Planes planes[3];
    for (int c = 0; c < channels_; ++c) planes[c] = {plane(y - 1, c), plane(y, c), plane(y + 1, c)};
    float* magnitude = magnitude_.data() + origin_;
    std::uint8_t* slots = slots_.data() + origin_;
    if (channels_ == 3)
        gradient_row<3>(planes, width_, magnitude, slots);
    else
        gradient_row<1>(planes, width_, magnitude, slots);
    for (std::int64_t x = width_ - 1; x < extended_width_ - 1; ++x) {
        magnitude[x] = magnitude[width_ - 2];
        slots[x] = slots[width_ - 2];
    }
    magnitude[0] = 0;
    for (std::int64_t x = extended_width_ - 1; x < end_; ++x) magnitude[x] = 0;
}

}  // namespace cliquesim::hog
