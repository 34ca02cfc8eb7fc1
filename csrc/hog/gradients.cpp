#include "hog/gradients.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim::hog {

namespace {

// Rows are padded to whole steps, so that no pass has a scalar tail.
constexpr std::int64_t step = 64;

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

std::int64_t padded(std::int64_t width) {
    return (width + step - 1) / step * step;
}

void split_channels(const std::uint8_t* __restrict row, std::int64_t width,
                    std::uint8_t* __restrict red, std::uint8_t* __restrict green,
                    std::uint8_t* __restrict blue) {
    for (std::int64_t x = 0; x < width; ++x) {
        red[x] = row[3 * x];
        green[x] = row[3 * x + 1];
        blue[x] = row[3 * x + 2];
    }
}

struct Planes {
    const std::uint8_t *above, *here, *below;
};

// Central differences of `step` pixels from x on; the strongest channel, the earlier one if tied.
template <int channels>
void strongest_gradient(const Planes* planes, std::int64_t begin, std::int32_t* __restrict dx,
                        std::int32_t* __restrict dy, std::int32_t* __restrict squared) {
    for (std::int64_t x = begin; x < begin + step; ++x) {
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
void gradient_row(const Planes* planes, std::int64_t width, float* __restrict magnitude,
                  std::uint8_t* __restrict orientation) {
    std::int32_t dx[step], dy[step], squared[step];
    for (std::int64_t begin = 0; begin < width; begin += step) {
        strongest_gradient<channels>(planes, begin, dx, dy, squared);
        for (std::int64_t k = 0; k < step; ++k)
            orientation[begin + k] = orientation_bin(dx[k], dy[k]);
        for (std::int64_t k = 0; k < step; ++k)
            magnitude[begin + k] = std::sqrt(static_cast<float>(squared[k]));
    }
}

}  // namespace

GradientRows::GradientRows(std::int64_t width, int channels, std::int64_t extended_width)
    : width_(width),
      extended_width_(extended_width),
      plane_stride_(padded(width) + 2),
      channels_(channels),
      planes_(size(3 * channels * plane_stride_)),
      magnitude_(size(std::max(padded(width), extended_width))),
      orientation_(size(std::max(padded(width), extended_width))) {}

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
    for (; loaded_ < y + 2; ++loaded_) load_row(loaded_);
    Planes planes[3];
    for (int c = 0; c < channels_; ++c) planes[c] = {plane(y - 1, c), plane(y, c), plane(y + 1, c)};
    if (channels_ == 3)
        gradient_row<3>(planes, width_, magnitude_.data(), orientation_.data());
    else
        gradient_row<1>(planes, width_, magnitude_.data(), orientation_.data());
    for (std::int64_t x = width_ - 1; x < extended_width_ - 1; ++x) {
        magnitude_[size(x)] = magnitude_[size(width_ - 2)];
        orientation_[size(x)] = orientation_[size(width_ - 2)];
    }
}

}  // namespace cliquesim::hog
