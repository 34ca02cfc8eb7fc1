#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "training/training.hpp"

namespace cliquesim::training {

namespace {

constexpr std::int64_t chunk_values = 16384;  // of a chunk of rows: it stays in the cache
constexpr int block_width = 32;               // channels at a time, in registers

inline float widened(float value) {
    return value;
}
inline float widened(Bfloat16 value) {
    return std::bit_cast<float>(std::uint32_t{value.bits} << 16U);
}

// To the nearest, the even one at ties; without a branch, so that loops of it become vectors.
inline void narrow(float value, float& out) {
    out = value;
}
inline void narrow(float value, Bfloat16& out) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
    out.bits = static_cast<std::uint16_t>(value != value ? 0x7FC0U : rounded);
}

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
void chunk_moments(const Rows<T>& x, Span rows, float* mean, float* squares) {
    const auto count = static_cast<float>(rows.end - rows.begin);
    for_channel_blocks(x.channels, [&]<int width>(std::int64_t first) {
        float sum[width] = {};
        for (std::int64_t r = rows.begin; r < rows.end; ++r) {
            const T* row = x.data + r * x.channels + first;
            for (int l = 0; l < width; ++l) sum[l] += widened(row[l]);
        }
        float middle[width], square[width] = {};
        for (int l = 0; l < width; ++l) middle[l] = sum[l] / count;
        for (std::int64_t r = rows.begin; r < rows.end; ++r) {
            const T* row = x.data + r * x.channels + first;
            for (int l = 0; l < width; ++l) {
                const float away = widened(row[l]) - middle[l];
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

}  // namespace

template <typename T>
void normalise_and_rectify(const Rows<T>& x, const Normalisation& norm, T* y, float* mean,
                           float* variance, const Context& context) {
    require(x.count > 0, "there must be at least one row");
    const std::int64_t channels = x.channels;
    const auto width = static_cast<std::size_t>(channels);
    const Chunks chunks(x.count, channels);
    ThreadPool pool(context);
    std::vector<float> moments(static_cast<std::size_t>(chunks.count()) * 2 * width);
    pool.parallel_for(chunks.count(), [&](std::int64_t i, int) {
        float* out = moments.data() + i * 2 * channels;
        chunk_moments(x, chunks[i], out, out + channels);
    });
    const auto n = static_cast<double>(x.count);
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
                const T* in = x.data + r * channels + first;
                T* out = y + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = widened(in[l]) * scale[l] + shift[l];
                    narrow(value < 0 ? 0.0F : value, out[l]);  // NaN stays
                }
            }
        });
    });
}

template <typename T>
void normalise_and_rectify_gradient(const Rows<T>& x, const T* dy, const Normalisation& norm,
                                    const float* mean, const float* variance, T* dx, float* dweight,
                                    float* dbias, const Context& context) {
    require(x.count > 0, "there must be at least one row");
    const std::int64_t channels = x.channels;
    const auto width = static_cast<std::size_t>(channels);
    const Chunks chunks(x.count, channels);
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
                const T* in = x.data + r * channels + first;
                const T* above = dy + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = widened(in[l]);
                    const bool passes = value * scale[l] + shift[l] > 0;
                    const float part = passes ? widened(above[l]) : 0.0F;
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
    const auto n = static_cast<double>(x.count);
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
                const T* in = x.data + r * channels + first;
                const T* above = dy + r * channels + first;
                T* out = dx + r * channels + first;
                for (int l = 0; l < w; ++l) {
                    const float value = widened(in[l]);
                    const bool passes = value * scale[l] + shift[l] > 0;
                    const float part = passes ? widened(above[l]) : 0.0F;
                    narrow(scale[l] * part + (tilt[l] * value + base[l]), out[l]);
                }
            }
        });
    });
}

template void normalise_and_rectify(const Rows<float>&, const Normalisation&, float*, float*,
                                    float*, const Context&);
template void normalise_and_rectify(const Rows<Bfloat16>&, const Normalisation&, Bfloat16*, float*,
                                    float*, const Context&);
template void normalise_and_rectify_gradient(const Rows<float>&, const float*, const Normalisation&,
                                             const float*, const float*, float*, float*, float*,
                                             const Context&);
template void normalise_and_rectify_gradient(const Rows<Bfloat16>&, const Bfloat16*,
                                             const Normalisation&, const float*, const float*,
                                             Bfloat16*, float*, float*, const Context&);

}  // namespace cliquesim::training
