#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "training/training.hpp"

namespace cliquesim::training {

namespace {

constexpr int colours = 3;
constexpr float full = 255.0F;

// Pixel centres in -1 to 1.
std::vector<float> centres(std::int64_t count) {
    std::vector<float> found(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        found[static_cast<std::size_t>(i)] =
            (static_cast<float>(i) + 0.5F) * (2.0F / static_cast<float>(count)) - 1.0F;
    return found;
}

class Augmenter {
  public:
    Augmenter(const Frames& frames, const Changes& changes)
        : frames_(frames),
          changes_(changes),
          height_(frames.height),
          width_(frames.width),
          pixels_(frames.height * frames.width),
          x_(centres(frames.width)),
          y_(centres(frames.height)) {}

    // Geometry and colour of one frame. `packed` has room for its pixels.
    void move(std::int64_t index, std::uint32_t* packed, float* image) const {
        const std::uint8_t* frame = frames_.data + index * pixels_ * colours;
        if (changes_.affine.empty()) {
            for (int c = 0; c < colours; ++c)
                for (std::int64_t i = 0; i < pixels_; ++i)
                    image[c * pixels_ + i] =
                        static_cast<float>(frame[i * colours + c]) * (1.0F / full);
        } else {
            for (std::int64_t i = 0; i < pixels_; ++i)
                packed[i] = static_cast<std::uint32_t>(frame[i * colours]) |
                            static_cast<std::uint32_t>(frame[i * colours + 1]) << 8U |
                            static_cast<std::uint32_t>(frame[i * colours + 2]) << 16U;
            const float* affine = changes_.affine.data() + index * 6;
            for (std::int64_t y = 0; y < height_; ++y)
                sample_row(packed, affine, y, image + y * width_);
        }
        if (!changes_.colour.empty()) recolour(changes_.colour.data() + index * 6, image);
    }

    // Surroundings and erasing of one frame, from all frames moved.
    void cover(std::int64_t index, const float* moved, float* image) const {
        if (!changes_.ellipse.empty()) {
            const float* own = moved + index * colours * pixels_;
            const float* other =
                moved + changes_.others[static_cast<std::size_t>(index)] * colours * pixels_;
            const float* half = changes_.ellipse.data() + index * 2;
            for (std::int64_t y = 0; y < height_; ++y) blend_row(own, other, half, y, image);
        }
        if (!changes_.erase.empty()) erase(changes_.erase.data() + index * 4, image);
    }

  private:
    // Bilinear, as torch's grid_sample with padding_mode="border" and align_corners=False.
    void sample_row(const std::uint32_t* packed, const float* affine, std::int64_t row,
                    float* out) const {
        const auto y = y_[static_cast<std::size_t>(row)];
        const float* x = x_.data();
        const float from_x = affine[1] * y + affine[2], from_y = affine[4] * y + affine[5];
        const float step_x = affine[0], step_y = affine[3];
        const auto columns = static_cast<float>(width_), rows = static_cast<float>(height_);
        const auto stride = static_cast<std::int32_t>(width_);
        const auto last_x = stride - 1, last_y = static_cast<std::int32_t>(height_) - 1;
        float* red = out;
        float* green = out + pixels_;
        float* blue = out + 2 * pixels_;
        for (std::int32_t j = 0; j < stride; ++j) {
            const float at_x = ((step_x * x[j] + from_x + 1.0F) * columns - 1.0F) * 0.5F;
            const float at_y = ((step_y * x[j] + from_y + 1.0F) * rows - 1.0F) * 0.5F;
            const float px = std::min(std::max(at_x, 0.0F), static_cast<float>(last_x));
            const float py = std::min(std::max(at_y, 0.0F), static_cast<float>(last_y));
            const auto x0 = static_cast<std::int32_t>(px), y0 = static_cast<std::int32_t>(py);
            const std::int32_t x1 = std::min(x0 + 1, last_x), y1 = std::min(y0 + 1, last_y);
            const float right = px - static_cast<float>(x0), down = py - static_cast<float>(y0);
            const std::uint32_t a = packed[y0 * stride + x0], b = packed[y0 * stride + x1];
            const std::uint32_t c = packed[y1 * stride + x0], d = packed[y1 * stride + x1];
            const float wb = right * (1.0F - down) * (1.0F / full);
            const float wc = (1.0F - right) * down * (1.0F / full);
            const float wd = right * down * (1.0F / full);
            const float wa = (1.0F - right) * (1.0F - down) * (1.0F / full);
            const auto mix = [&](std::uint32_t shift) {
                const auto value = [&](std::uint32_t pixel) {
                    return static_cast<float>(static_cast<std::int32_t>((pixel >> shift) & 0xFFU));
                };
                return wa * value(a) + wb * value(b) + wc * value(c) + wd * value(d);
            };
            red[j] = mix(0);
            green[j] = mix(8);
            blue[j] = mix(16);
        }
    }

    static double sum(const float* values, std::int64_t count) {
        // Sixteen partial sums, so that it vectorises without -ffast-math.
        std::array<float, 16> partial{};
        double total = 0;
        std::int64_t i = 0;
        while (i + 16 <= count) {
            partial.fill(0);
            for (const std::int64_t stop = std::min(count - 15, i + 4096); i < stop; i += 16)
                for (std::size_t l = 0; l < 16; ++l)
                    partial[l] += values[i + static_cast<std::int64_t>(l)];
            for (const float one : partial) total += static_cast<double>(one);
        }
        for (; i < count; ++i) total += static_cast<double>(values[i]);
        return total;
    }

    void recolour(const float* colour, float* image) const {
        const float brightness = colour[3], contrast = colour[4], saturation = colour[5];
        double total = 0;
        for (int c = 0; c < colours; ++c)
            total += static_cast<double>(colour[c]) * sum(image + c * pixels_, pixels_);
        const auto mean = static_cast<float>(total / static_cast<double>(colours * pixels_));
        float* red = image;
        float* green = image + pixels_;
        float* blue = image + 2 * pixels_;
        const float base = mean - contrast * mean + brightness;
        for (std::int64_t i = 0; i < pixels_; ++i) {
            const float r = red[i] * colour[0] * contrast + base;
            const float g = green[i] * colour[1] * contrast + base;
            const float b = blue[i] * colour[2] * contrast + base;
            const float grey = (r + g + b) * (1.0F / 3.0F);
            red[i] = clamp((r - grey) * saturation + grey);
            green[i] = clamp((g - grey) * saturation + grey);
            blue[i] = clamp((b - grey) * saturation + grey);
        }
    }

    static float clamp(float value) { return std::min(std::max(value, 0.0F), 1.0F); }

    void blend_row(const float* own, const float* other, const float* half, std::int64_t row,
                   float* image) const {
        const float sharpness = 1.0F / std::max(changes_.softness, 1e-6F);
        const float down = y_[static_cast<std::size_t>(row)] / half[1];
        const float per_x = 1.0F / half[0];
        const float* x = x_.data();
        for (int c = 0; c < colours; ++c) {
            const std::int64_t start = c * pixels_ + row * width_;
            const float* mine = own + start;
            const float* theirs = other + start;
            float* out = image + start;
            for (std::int64_t j = 0; j < width_; ++j) {
                const float across = x[j] * per_x;
                const float distance = std::sqrt(across * across + down * down);
                const float keep = clamp((1.0F - distance) * sharpness + 0.5F);
                // Both ends exact.
                out[j] = keep * mine[j] + (1.0F - keep) * theirs[j];
            }
        }
    }

    void erase(const float* edges, float* image) const {
        const float left = edges[0], right = edges[1], top = edges[2], bottom = edges[3];
        if (!(left <= right && top <= bottom)) return;
        for (int c = 0; c < colours; ++c) {
            float* plane = image + c * pixels_;
            const auto mean =
                static_cast<float>(sum(plane, pixels_) / static_cast<double>(pixels_));
            for (std::int64_t y = 0; y < height_; ++y) {
                const float down = y_[static_cast<std::size_t>(y)];
                if (!(down >= top && down <= bottom)) continue;
                float* out = plane + y * width_;
                for (std::int64_t j = 0; j < width_; ++j) {
                    const float across = x_[static_cast<std::size_t>(j)];
                    out[j] = across >= left && across <= right ? mean : out[j];
                }
            }
        }
    }

    Frames frames_;
    Changes changes_;
    std::int64_t height_, width_, pixels_;
    std::vector<float> x_, y_;
};

void check(const Frames& frames, const Changes& changes) {
    const auto n = static_cast<std::size_t>(frames.count);
    const auto fits = [&](std::size_t size, std::size_t each) {
        return size == 0 || size == n * each;
    };
    require(fits(changes.affine.size(), 6) && fits(changes.colour.size(), 6) &&
                fits(changes.ellipse.size(), 2) && fits(changes.erase.size(), 4) &&
                changes.others.size() == (changes.ellipse.empty() ? 0 : n),
            "changes must be those of every frame");
    require(frames.height * frames.width < (std::int64_t{1} << 30), "frames are too large");
    for (const std::int64_t other : changes.others)
        require(other >= 0 && other < frames.count, "others must be frames of the batch");
}

}  // namespace

void augment(const Frames& frames, const Changes& changes, float* images, const Context& context) {
    check(frames, changes);
    if (frames.count == 0 || frames.height * frames.width == 0) return;
    const Augmenter augmenter(frames, changes);
    const std::int64_t pixels = frames.height * frames.width;
    const std::int64_t size = pixels * colours;
    // Surroundings come from other frames as they are before their own are replaced.
    const auto moved = changes.ellipse.empty() ? nullptr
                                               : std::make_unique_for_overwrite<float[]>(
                                                     static_cast<std::size_t>(frames.count * size));
    float* first = moved ? moved.get() : images;
    ThreadPool pool(context);
    std::vector<std::vector<std::uint32_t>> packed(static_cast<std::size_t>(pool.size()));
    pool.parallel_for(frames.count, [&](std::int64_t index, int worker) {
        auto& own = packed[static_cast<std::size_t>(worker)];
        if (own.empty()) own.resize(static_cast<std::size_t>(pixels));
        augmenter.move(index, own.data(), first + index * size);
    });
    if (changes.ellipse.empty() && changes.erase.empty()) return;
    pool.parallel_for(frames.count, [&](std::int64_t index, int) {
        augmenter.cover(index, first, images + index * size);
    });
}

}  // namespace cliquesim::training
