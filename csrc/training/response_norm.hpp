// Local response normalisation over five neighbouring channels and its gradient, without the
// launches: a thread block takes some pixels with all their channels, in phases between which its
// threads wait for each other. Channels lie next to each other (NHWC), a multiple of four.
//
// With `rectifies` x stands for max(x, 0), and dx is 0 where that is:
//
//   s_c = k + share * sum of x_j^2 over |j - c| <= 2,  y_c = x_c s_c^-beta
//   dx_c = dy_c s_c^-beta - 2 share beta x_c * sum of dy_j x_j s_j^(-beta - 1) over |j - c| <= 2
//
// Cost: forward reads x and writes y, backward reads x and dy and writes dx, each once; one power
// per number.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"

namespace cliquesim::training {

inline constexpr int norm_reach = 2;
inline constexpr int norm_capacity = 2560;  // numbers of a tile, with its margins
inline constexpr int norm_margin = 4;       // zeros on both sides of a pixel's channels
inline constexpr int largest_channels = norm_capacity - 2 * norm_margin;

struct ResponseNorm {
    std::int64_t pixels;
    std::int32_t channels;
    float share;  // alpha / 5
    float beta, k;
    bool rectifies;

    CLIQUESIM_HOST_DEVICE std::int32_t pitch() const { return channels + 2 * norm_margin; }
    CLIQUESIM_HOST_DEVICE std::int32_t tile_pixels() const { return norm_capacity / pitch(); }
    CLIQUESIM_HOST_DEVICE std::int64_t tiles() const {
        return (pixels + tile_pixels() - 1) / tile_pixels();
    }
};

// One number for each channel of some pixels.
struct NormRows {
    Four<float> values[norm_capacity / 4];
};

struct NormBuffer {
    NormRows x;
};

struct NormGradientBuffer {
    NormRows x, direct, shared;  // dy s^-beta, and dy x s^(-beta - 1)
};

// The fours of a tile that one thread works on.
template <typename Work>
CLIQUESIM_HOST_DEVICE void for_each_four(const ResponseNorm& norm, std::int64_t tile, int thread,
                                         int threads, Work&& work) {
    const std::int32_t fours = norm.channels / 4;
    const std::int64_t first = tile * norm.tile_pixels();
    const std::int64_t left = norm.pixels - first;
    const std::int32_t pixels =
        left < norm.tile_pixels() ? static_cast<std::int32_t>(left) : norm.tile_pixels();
    for (std::int32_t i = thread; i < pixels * fours; i += threads)
        work(first * fours + i, i / fours * (norm.pitch() / 4) + 1 + i % fours);
}

template <typename T>
CLIQUESIM_HOST_DEVICE Four<float> widened(Four<T> four) {  // a copy is one load
    Four<float> wide{};
    for (int l = 0; l < 4; ++l) wide.values[l] = to_float(four.values[l]);
    return wide;
}

CLIQUESIM_HOST_DEVICE inline void clear_margins(const ResponseNorm& norm, int thread, int threads,
                                                NormRows& rows) {
    const std::int32_t step = norm.pitch() / 4;
    for (std::int32_t i = thread; i < norm.tile_pixels(); i += threads)
        rows.values[i * step] = rows.values[(i + 1) * step - 1] = Four<float>{};
}

// Sums over the windows of the four channels at `position`, of values or of their squares.
template <bool squares>
CLIQUESIM_HOST_DEVICE Four<float> window_sums(const NormRows& rows, std::int32_t position) {
    float near[12];
    for (int i = 0; i < 3; ++i) {
        const Four<float> four = rows.values[position - 1 + i];
        for (int l = 0; l < 4; ++l)
            near[4 * i + l] = squares ? four.values[l] * four.values[l] : four.values[l];
    }
    Four<float> sums{};
    for (int l = 0; l < 4; ++l)
        for (int j = -norm_reach; j <= norm_reach; ++j) sums.values[l] += near[4 + l + j];
    return sums;
}

// s^-beta; s is above 0.
CLIQUESIM_HOST_DEVICE inline float norm_power(float s, float beta) {
    return exp2f(-beta * log2f(s));
}

template <typename T>
CLIQUESIM_HOST_DEVICE void load_norm_tile(const ResponseNorm& norm, const Four<T>* x,
                                          std::int64_t tile, int thread, int threads,
                                          NormRows& rows) {
    for_each_four(norm, tile, thread, threads, [&](std::int64_t source, std::int32_t position) {
        Four<float> four = widened(x[source]);
        for (float& value : four.values)
            if (norm.rectifies && value < 0) value = 0;  // NaN stays
        rows.values[position] = four;
    });
}

template <typename T>
CLIQUESIM_HOST_DEVICE void write_normalised(const ResponseNorm& norm, Four<T>* y, std::int64_t tile,
                                            int thread, int threads, const NormBuffer& buffer) {
    for_each_four(norm, tile, thread, threads, [&](std::int64_t target, std::int32_t position) {
        const Four<float> sums = window_sums<true>(buffer.x, position);
        const Four<float> x = buffer.x.values[position];
        Four<T> out{};
        for (int l = 0; l < 4; ++l)
            out.values[l] = from_float<T>(
                x.values[l] * norm_power(norm.k + norm.share * sums.values[l], norm.beta));
        y[target] = out;
    });
}

template <typename T>
CLIQUESIM_HOST_DEVICE void measure_shared(const ResponseNorm& norm, const Four<T>* dy,
                                          std::int64_t tile, int thread, int threads,
                                          NormGradientBuffer& buffer) {
    for_each_four(norm, tile, thread, threads, [&](std::int64_t source, std::int32_t position) {
        const Four<float> sums = window_sums<true>(buffer.x, position);
        const Four<float> x = buffer.x.values[position];
        const Four<float> above = widened(dy[source]);
        Four<float> direct{}, shared{};
        for (int l = 0; l < 4; ++l) {
            const float s = norm.k + norm.share * sums.values[l];
            direct.values[l] = above.values[l] * norm_power(s, norm.beta);
            shared.values[l] = direct.values[l] * x.values[l] / s;
        }
        buffer.direct.values[position] = direct;
        buffer.shared.values[position] = shared;
    });
}

template <typename T>
CLIQUESIM_HOST_DEVICE void write_norm_gradient(const ResponseNorm& norm, Four<T>* dx,
                                               std::int64_t tile, int thread, int threads,
                                               const NormGradientBuffer& buffer) {
    for_each_four(norm, tile, thread, threads, [&](std::int64_t target, std::int32_t position) {
        const Four<float> sums = window_sums<false>(buffer.shared, position);
        const Four<float> x = buffer.x.values[position];
        Four<T> out{};
        for (int l = 0; l < 4; ++l) {
            const float slope = buffer.direct.values[position].values[l] -
                                2.0F * norm.share * norm.beta * x.values[l] * sums.values[l];
            out.values[l] = from_float<T>(norm.rectifies && x.values[l] == 0 ? 0.0F : slope);
        }
        dx[target] = out;
    });
}

}  // namespace cliquesim::training
