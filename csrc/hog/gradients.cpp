#include "hog/gradients.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim::hog {

namespace {

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

void split_channels(const std::uint8_t* __restrict row, std::uint8_t* __restrict planes,
                    std::int64_t width) {
    for (std::int64_t x = 0; x < width; ++x) {
        planes[x] = row[3 * x];
        planes[width + x] = row[3 * x + 1];
        planes[2 * width + x] = row[3 * x + 2];
    }
}

void first_channel(const std::uint8_t* __restrict above, const std::uint8_t* __restrict here,
                   const std::uint8_t* __restrict below, std::int64_t width,
                   std::int16_t* __restrict dx, std::int16_t* __restrict dy,
                   std::int32_t* __restrict squared) {
    for (std::int64_t x = 1; x < width - 1; ++x) {
        const auto gx = static_cast<std::int16_t>(here[x + 1] - here[x - 1]);
        const auto gy = static_cast<std::int16_t>(below[x] - above[x]);
        dx[x] = gx;
        dy[x] = gy;
        squared[x] = gx * gx + gy * gy;
    }
}

// Keeps the stronger gradient; the earlier channel wins ties.
void next_channel(const std::uint8_t* __restrict above, const std::uint8_t* __restrict here,
                  const std::uint8_t* __restrict below, std::int64_t width,
                  std::int16_t* __restrict dx, std::int16_t* __restrict dy,
                  std::int32_t* __restrict squared) {
    for (std::int64_t x = 1; x < width - 1; ++x) {
        const auto gx = static_cast<std::int16_t>(here[x + 1] - here[x - 1]);
        const auto gy = static_cast<std::int16_t>(below[x] - above[x]);
        const std::int32_t value = gx * gx + gy * gy;
        const bool stronger = value > squared[x];
        dx[x] = stronger ? gx : dx[x];
        dy[x] = stronger ? gy : dy[x];
        squared[x] = stronger ? value : squared[x];
    }
}

void finish_row(const std::int16_t* __restrict dx, const std::int16_t* __restrict dy,
                const std::int32_t* __restrict squared, std::int64_t width,
                float* __restrict magnitude, std::uint8_t* __restrict orientation) {
    for (std::int64_t x = 1; x < width - 1; ++x) orientation[x] = orientation_bin(dx[x], dy[x]);
    for (std::int64_t x = 1; x < width - 1; ++x)
        magnitude[x] = std::sqrt(static_cast<float>(squared[x]));
}

}  // namespace

GradientRows::GradientRows(std::int64_t height, std::int64_t width, int channels,
                           std::int64_t extended_width)
    : height_(height),
      width_(width),
      extended_width_(extended_width),
      channels_(channels),
      planes_(size(3 * channels * width)),
      dx_(size(width)),
      dy_(size(width)),
      squared_(size(width)),
      magnitude_(size(std::max(width, extended_width))),
      orientation_(size(std::max(width, extended_width))) {}

void GradientRows::start_frame(const std::uint8_t* frame) {
    frame_ = frame;
    loaded_ = 0;
}

void GradientRows::load_row(std::int64_t y) {
    const std::uint8_t* row = frame_ + y * width_ * channels_;
    std::uint8_t* planes = planes_.data() + (y % 3) * channels_ * width_;
    if (channels_ == 3)
        split_channels(row, planes, width_);
    else
        std::copy_n(row, width_, planes);
}

void GradientRows::compute(std::int64_t y) {
    for (; loaded_ < y + 2; ++loaded_) load_row(loaded_);
    first_channel(plane(y - 1, 0), plane(y, 0), plane(y + 1, 0), width_, dx_.data(), dy_.data(),
                  squared_.data());
    for (int c = 1; c < channels_; ++c)
        next_channel(plane(y - 1, c), plane(y, c), plane(y + 1, c), width_, dx_.data(), dy_.data(),
                     squared_.data());
    finish_row(dx_.data(), dy_.data(), squared_.data(), width_, magnitude_.data(),
               orientation_.data());
    for (std::int64_t x = width_ - 1; x < extended_width_ - 1; ++x) {
        magnitude_[size(x)] = magnitude_[size(width_ - 2)];
        orientation_[size(x)] = orientation_[size(width_ - 2)];
    }
}

}  // namespace cliquesim::hog
