#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "training/training.hpp"

namespace cliquesim::training {

namespace {

// One worker's buffers: gradients of a frame, and sums of their squares with a margin of zeros.
class Gradients {
  public:
    Gradients(std::int64_t height, std::int64_t width, const GradientSettings& settings)
        : height_(height),
          width_(width),
          reach_(settings.window / 2),
          floor_square_(settings.floor * settings.floor),
          padded_(static_cast<std::size_t>(width + 2) * 3),
          dx_(size()),
          dy_(size()),
          square_(size()),
          column_sum_(static_cast<std::size_t>(width + 2 * reach_)),
          per_column_(static_cast<std::size_t>(width)),
          energy_(static_cast<std::size_t>(width)) {
        for (std::int64_t x = 0; x < width; ++x)
            per_column_[static_cast<std::size_t>(x)] = 1.0F / within(x, width);
    }

    void run(const float* image, const float* rows, const float* columns, float* out) {
        for (std::int64_t y = 0; y < height_; ++y) differences(image, y);
        for (std::int64_t y = 0; y < height_; ++y)
            normalise(y, rows == nullptr ? 1.0F : rows[y], columns, out + y * width_ * 3);
    }

  private:
    std::size_t size() const { return static_cast<std::size_t>(height_ * width_); }

    // Pixels of the window around `at`, cut at the border.
    float within(std::int64_t at, std::int64_t side) const {
        return static_cast<float>(std::min(at + reach_, side - 1) -
                                  std::max<std::int64_t>(at - reach_, 0) + 1);
    }

    // Central differences of one row; the strongest channel, the first one at ties.
    void differences(const float* image, std::int64_t y) {
        const std::int64_t pixels = height_ * width_, width = width_;
        const std::int64_t above = std::max<std::int64_t>(y - 1, 0) * width;
        const std::int64_t below = std::min(y + 1, height_ - 1) * width;
        float* dx = dx_.data() + y * width;
        float* dy = dy_.data() + y * width;
        float* square = square_.data() + y * width;
        const float* up[3];
        const float* down[3];
        const float* row[3];  // with one more pixel on both sides
        for (int c = 0; c < 3; ++c) {
            const float* plane = image + c * pixels;
            float* own = padded_.data() + c * (width + 2);
            std::copy_n(plane + y * width, width, own + 1);
            own[0] = own[1];
            own[width + 1] = own[width];
            up[c] = plane + above;
            down[c] = plane + below;
            row[c] = own;
        }
#pragma GCC ivdep
        for (std::int64_t x = 0; x < width; ++x) {
            float best = -1, best_dx = 0, best_dy = 0;
            for (int c = 0; c < 3; ++c) {
                const float right = 0.5F * (row[c][x + 2] - row[c][x]);
                const float under = 0.5F * (down[c][x] - up[c][x]);
                const float strength = right * right + under * under;
                const bool stronger = strength > best;
                best = stronger ? strength : best;
                best_dx = stronger ? right : best_dx;
                best_dy = stronger ? under : best_dy;
            }
            dx[x] = best_dx;
            dy[x] = best_dy;
            square[x] = best;
        }
    }

    void normalise(std::int64_t y, float row_weight, const float* columns, float* out) {
        const std::int64_t width = width_;
        float* sum = column_sum_.data() + reach_;
        std::fill_n(sum, width, 0.0F);
        for (std::int64_t v = std::max<std::int64_t>(y - reach_, 0);
             v <= std::min(y + reach_, height_ - 1); ++v) {
            const float* square = square_.data() + v * width;
            for (std::int64_t x = 0; x < width; ++x) sum[x] += square[x];
        }
        const float per_row = 1.0F / within(y, height_);
        const float* dx = dx_.data() + y * width;
        const float* dy = dy_.data() + y * width;
        const float* square = square_.data() + y * width;
        const float* per_column = per_column_.data();
        const float* padded_sum = column_sum_.data();
        float* energy = energy_.data();
        std::fill_n(energy, width, 0.0F);
        for (std::int64_t u = 0; u <= 2 * reach_; ++u)
            for (std::int64_t x = 0; x < width; ++x) energy[x] += padded_sum[x + u];
        for (std::int64_t x = 0; x < width; ++x) {
            const float weight = columns == nullptr ? row_weight : row_weight * columns[x];
            const float scale =
                weight / std::sqrt(energy[x] * per_row * per_column[x] + floor_square_);
            const float magnitude = std::sqrt(square[x]);
            const float turn = scale / std::max(magnitude, 1e-8F);
            out[3 * x] = magnitude * scale;
            out[3 * x + 1] = (dx[x] * dx[x] - dy[x] * dy[x]) * turn;
            out[3 * x + 2] = 2.0F * dx[x] * dy[x] * turn;
        }
    }

    std::int64_t height_, width_, reach_;
    float floor_square_;
    std::vector<float> padded_, dx_, dy_, square_, column_sum_, per_column_, energy_;
};

}  // namespace

void gradient_channels(const Images& images, const GradientSettings& settings,
                       std::span<const float> rows, std::span<const float> columns, float* channels,
                       const Context& context) {
    require(settings.window >= 1 && settings.window % 2 == 1, "window must be odd");
    require(settings.floor > 0, "floor must be above 0");
    require(
        rows.size() ==
                (columns.empty() ? 0 : static_cast<std::size_t>(images.count * images.height)) &&
            (columns.empty() ||
             columns.size() == static_cast<std::size_t>(images.count * images.width)),
        "rows and columns must weigh every image, or both be empty");
    const std::int64_t pixels = images.height * images.width;
    if (images.count == 0 || pixels == 0) return;
    ThreadPool pool(context);
    std::vector<std::unique_ptr<Gradients>> workers(static_cast<std::size_t>(pool.size()));
    pool.parallel_for(images.count, [&](std::int64_t index, int worker) {
        auto& own = workers[static_cast<std::size_t>(worker)];
        if (!own) own = std::make_unique<Gradients>(images.height, images.width, settings);
        own->run(images.data + index * pixels * 3,
                 rows.empty() ? nullptr : rows.data() + index * images.height,
                 columns.empty() ? nullptr : columns.data() + index * images.width,
                 channels + index * pixels * 3);
    });
}

}  // namespace cliquesim::training
