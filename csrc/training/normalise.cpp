#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "common/bfloat16.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "training/training.hpp"

namespace cliquesim::training {

namespace {

constexpr std::int64_t chunk_values = 16384;  // of a chunk of rows: it stays in the cache
constexpr int block_width = 32;               // channels at a time, in registers

struct Span {
    std::int64_t begin, end;
};

// Rows in chunks whose bounds do not depend on the number of threads.
class Chunks {
  public:
    Chunks(std::int64_t rows, std::int64_t channels)
        : rows_(rows), each_(std::max<std::int64_t>(1, chunk_values / channels)) {}
    std::int64_t count() const { return (rows_ + each_ - 1) / each_; }
    Span operator[](std::int64_t i) const { return {i * each_, std::min(rows_, (i + 1) * each_)}; }

  private:
    std::int64_t rows_, each_;
};

// body.template operator()<width>(first) for all channels, `width` of them from `first` on.
template <typename Body>
void for_channel_blocks(std::int64_t channels, const Body& body) {
    std::int64_t c = 0;
    for (; c + block_width <= channels; c += block_width) body.template operator()<block_width>(c);
    for (; c + 8 <= channels; c += 8) body.template operator()<8>(c);
    for (; c < channels; ++c) body.template operator()<1>(c);
}

// `width` values from `first` on, where registers can hold them.
template <int width>
std::array<float, width> taken(std::span<const float> values, std::int64_t first) {
    std::array<float, width> found;
    std::copy_n(values.begin() + first, width, found.begin());
    return found;
}

// Mean and summed squared deviations of one chunk, 2 x channels values.
template <typename T>
void chunk_moments(const MatrixView<const T>& x, Span rows, float* mean, float* squares) {
    const auto count = static_cast<float>(rows.end - rows.begin);
    for_channel_blocks(x.cols, [&]<int width>(std::int64_t first) {
        float sum[width] = {};
        for (std::int64_t r = rows.begin; r < rows.end; ++r) {
            const T* row = x.row(r) + first;
            for (int l = 0; l < width; ++l) sum[l] += to_float(row[l]);
        }
        float middle[width], square[width] = {};
        for (int l = 0; l < width; ++l) middle[l] = sum[l] / count;
        for (std::int64_t r = rows.begin; r < rows.end; ++r) {
            const T* row = x.row(r) + first;
            for (int l = 0; l < width; ++l) {
                const float away = to_float(row[l]) - middle[l];
                square[l] += away * away;
            }
        }
        for (int l = 0; l < width; ++l) mean[first + l] = middle[l], squares[first + l] = square[l];
    });
}

// What a channel is multiplied by and what is added: y = max(0, scale x + shift).
struct Affine {
    std::vector<float> scale, shift;
};

Affine affine_of(const Normalisation& norm, const float* mean, const float* variance) {
    const std::size_t channels = norm.weight.size();
    Affine found{std::vector<float>(channels), std::vector<float>(channels)};
    for (std::size_t c = 0; c < channels; ++c) {
        found.scale[c] = norm.weight[c] / std::sqrt(variance[c] + norm.epsilon);
        found.shift[c] = norm.bias[c] - mean[c] * found.scale[c];
    }
    return found;
}

// The gradient for what ReLU takes, from that for what it gives.
template <typename T>
float passed(float taken, T above) {
    return taken > 0 ? to_float(above) : 0.0F;
}

}  // namespace

template <typename T>
void normalise_and_rectify(const MatrixView<const T>& x, const Normalisation& norm, T* y,
                           float* mean, float* variance, const Context& context) {
    require(x.rows > 0, "there must be at least one row");
    const std::int64_t channels = x.cols;
    const auto width = static_cast<std::size_t>(channels);
    const Chunks chunks(x.rows, channels);
    ThreadPool pool(context);
    std::vector<float> moments(static_cast<std::size_t>(chunks.count()) * 2 * width);
    pool.parallel_for(chunks.count(), [&](std::int64_t i, int) {
        float* out = moments.data() + i * 2 * channels;
        chunk_moments(x, chunks[i], out, out + channels);
    });
    const auto n = static_cast<double>(x.rows);
    std::vector<double> middle(width), square(width);
    for (std::int64_t i = 0; i < chunks.count(); ++i) {
        const auto count = static_cast<double>(chunks[i].end - chunks[i].begin);
        const float* of_chunk = moments.data() + i * 2 * channels;
        for (std::size_t c = 0; c < width; ++c) middle[c] += count / n * of_chunk[c];
    }
    for (std::int64_t i = 0; i < chunks.count(); ++i) {
        const auto count = static_cast<double>(chunks[i].end - chunks[i].begin);
        const float* of_chunk = moments.data() + i * 2 * channels;
        for (std::size_t c = 0; c < width; ++c) {
            const double away = of_chunk[c] - middle[c];
            square[c] += of_chunk[width + c] + count * away * away;
        }
    }
    for (std::size_t c = 0; c < width; ++c) {
        mean[c] = static_cast<float>(middle[c]);
        variance[c] = static_cast<float>(square[c] / n);
    }
    const Affine affine = affine_of(norm, mean, variance);
    pool.parallel_for(chunks.count(), [&](std::int64_t i, int) {
        const Span rows = chunks[i];
        for_channel_blocks(channels, [&]<int w>(std::int64_t first) {
            const auto scale = taken<w>(affine.scale, first), shift = taken<w>(affine.shift, first);
            for (std::int64_t r = rows.begin; r < rows.end; ++r) {
                const T* in = x.row(r) + first;
                T* out = y + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = to_float(in[l]) * scale[l] + shift[l];
                    out[l] = from_float<T>(value < 0 ? 0.0F : value);  // NaN stays
                }
            }
        });
    });
}

template <typename T>
void normalise_and_rectify_gradient(const MatrixView<const T>& x, const T* dy,
                                    const Normalisation& norm, const float* mean,
                                    const float* variance, T* dx, float* dweight, float* dbias,
                                    const Context& context) {
    require(x.rows > 0, "there must be at least one row");
    const std::int64_t channels = x.cols;
    const auto width = static_cast<std::size_t>(channels);
    const Chunks chunks(x.rows, channels);
    const Affine affine = affine_of(norm, mean, variance);
    ThreadPool pool(context);
    // Of what passes the ReLU: its sum, and that of its products with the deviation from the mean.
    std::vector<float> sums(static_cast<std::size_t>(chunks.count()) * 2 * width);
    pool.parallel_for(chunks.count(), [&](std::int64_t i, int) {
        const Span rows = chunks[i];
        float* out = sums.data() + i * 2 * channels;
        for_channel_blocks(channels, [&]<int w>(std::int64_t first) {
            const auto scale = taken<w>(affine.scale, first), shift = taken<w>(affine.shift, first);
            const auto middle = taken<w>({mean, width}, first);
            float plain[w] = {}, weighted[w] = {};
            for (std::int64_t r = rows.begin; r < rows.end; ++r) {
                const T* in = x.row(r) + first;
                const T* above = dy + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = to_float(in[l]);
                    const float part = passed(value * scale[l] + shift[l], above[l]);
                    plain[l] += part;
                    weighted[l] += part * (value - middle[l]);
                }
            }
            for (int l = 0; l < w; ++l) {
                out[first + l] = plain[l];
                out[channels + first + l] = weighted[l];
            }
        });
    });
    const auto n = static_cast<double>(x.rows);
    std::vector<float> slope(width), level(width);  // dx = scale dy + slope x + level
    for (std::size_t c = 0; c < width; ++c) {
        double plain = 0, weighted = 0;
        for (std::int64_t i = 0; i < chunks.count(); ++i) {
            plain += sums[static_cast<std::size_t>(i) * 2 * width + c];
            weighted += sums[static_cast<std::size_t>(i) * 2 * width + width + c];
        }
        const double square = static_cast<double>(variance[c]) + norm.epsilon;
        dweight[c] = static_cast<float>(weighted / std::sqrt(square));
        dbias[c] = static_cast<float>(plain);
        const double tilt = -affine.scale[c] * weighted / (square * n);
        slope[c] = static_cast<float>(tilt);
        level[c] = static_cast<float>(-affine.scale[c] * plain / n - tilt * mean[c]);
    }
    pool.parallel_for(chunks.count(), [&](std::int64_t i, int) {
        const Span rows = chunks[i];
        for_channel_blocks(channels, [&]<int w>(std::int64_t first) {
            const auto scale = taken<w>(affine.scale, first), shift = taken<w>(affine.shift, first);
            const auto tilt = taken<w>(slope, first), base = taken<w>(level, first);
            for (std::int64_t r = rows.begin; r < rows.end; ++r) {
                const T* in = x.row(r) + first;
                const T* above = dy + r * channels + first;
                T* out = dx + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = to_float(in[l]);
                    const float part = passed(value * scale[l] + shift[l], above[l]);
                    out[l] = from_float<T>(scale[l] * part + (tilt[l] * value + base[l]));
                }
            }
        });
    });
}

template void normalise_and_rectify(const MatrixView<const float>&, const Normalisation&, float*,
                                    float*, float*, const Context&);
template void normalise_and_rectify(const MatrixView<const Bfloat16>&, const Normalisation&,
                                    Bfloat16*, float*, float*, const Context&);
template void normalise_and_rectify_gradient(const MatrixView<const float>&, const float*,
                                             const Normalisation&, const float*, const float*,
                                             float*, float*, float*, const Context&);
template void normalise_and_rectify_gradient(const MatrixView<const Bfloat16>&, const Bfloat16*,
                                             const Normalisation&, const float*, const float*,
                                             Bfloat16*, float*, float*, const Context&);

}  // namespace cliquesim::training
