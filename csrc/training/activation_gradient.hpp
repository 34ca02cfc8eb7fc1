// The backward pass of activation.hpp, and the gradient of the bias.
#pragma once

#include <cstdint>

#include "training/activation.hpp"

namespace cliquesim::training {

// `bias` (channels) may be null. dy and `places` are of the pooled pixels, if any.
template <typename T>
struct ActivationBackward {
    Channels<const T> x;
    const T* bias;
    Channels<const T> dy;
    const std::uint8_t* places;
    Channels<T> dx;
    float* bias_sums;  // blocks x channels, of dx; null without a bias
};

// dx of one pixel from its v and dy, which it takes the place of. From a pixel that is not above 0
// no gradient passes: nor does it come there by pooling.
template <Norm norm, bool pools, int wide>
CLIQUESIM_HOST_DEVICE void differentiate(const Activation& activation, const Lanes& lanes,
                                         const PerLane<Numbers<wide>>& v,
                                         PerLane<Numbers<wide>>& slope) {
    if (norm != Norm::none) {
        PerLane<Numbers<wide>> s, shared;
        PerLane<Edges> edges;
        norm_sums(activation, lanes, v, s);
        lanes.each([&](int lane) {
            for (int i = 0; i < wide; ++i) {
                const NormPowers powers = norm_powers<norm>(s[lane].values[i], activation.beta);
                float& direct = slope[lane].values[i];
                direct *= powers.power;
                shared[lane].values[i] = direct * v[lane].values[i] * powers.inverse;
            }
        });
        lanes.tell(shared, edges);
        const float scale = -2.0F * activation.share * activation.beta;
        lanes.each([&](int lane) {
            const Numbers<wide> around = sums_of_five(shared[lane], edges[lane]);
            for (int i = 0; i < wide; ++i)
                slope[lane].values[i] += scale * v[lane].values[i] * around.values[i];
        });
    }
    if (pools || !activation.rectifies) return;
    lanes.each([&](int lane) {
        for (int i = 0; i < wide; ++i)
            if (v[lane].values[i] == 0) slope[lane].values[i] = 0;
    });
}

// What the windows of one column send to the pixels of a row, by the pixels' column in the window.
template <int wide>
struct Sent {
    Numbers<wide> columns[pool_side];
};

template <int wide, typename T>
CLIQUESIM_HOST_DEVICE void take_window(const T* dy, const std::uint8_t* places, int row,
                                       Sent<wide>& sent) {
    const Numbers<wide> above = load_numbers<wide>(true, dy);
    const auto place = *reinterpret_cast<const Piece<std::uint8_t, wide>*>(places);
    for (int i = 0; i < wide; ++i)
        for (int column = 0; column < pool_side; ++column)
            if (place.values[i] == pool_side * row + column)
                sent.columns[column].values[i] += above.values[i];
}

// The windows that a row of an image lies in.
struct PooledRow {
    std::int32_t across;        // windows of a row
    std::int64_t upper, lower;  // the first of those where the row is the last of three, and of
    int row;                    // those where it is this one of the first two; negative: none

    CLIQUESIM_HOST_DEVICE PooledRow(const Activation& activation, std::int64_t line)
        : across(activation.pooled_width()) {
        const std::int32_t down = activation.pooled_height();
        const std::int64_t image = line / activation.height;
        const auto y = static_cast<std::int32_t>(line % activation.height);
        const std::int64_t own = (image * down + y / pool_step) * across;
        row = y % pool_step;
        lower = y / pool_step < down ? own : -1;
        upper = row == 0 && y > 0 ? own - across : -1;
    }
    template <int wide, typename T>
    CLIQUESIM_HOST_DEVICE Sent<wide> take(const ActivationBackward<T>& tensors,
                                          std::int32_t channels, const Lanes& lanes, int lane,
                                          std::int32_t column) const {
        Sent<wide> sent{};
        if (!lanes.active || column < 0 || column >= across) return sent;
        const T* const dy = tensors.dy.first(wide * lane);
        const std::uint8_t* const places = tensors.places + wide * lane;
        if (lower >= 0)
            take_window(dy + (lower + column) * tensors.dy.channels,
                        places + (lower + column) * channels, row, sent);
        if (upper >= 0)
            take_window(dy + (upper + column) * tensors.dy.channels,
                        places + (upper + column) * channels, pool_step, sent);
        return sent;
    }
};

// The pixels of a run with what their windows send.
template <int wide, typename T, typename Work>
CLIQUESIM_HOST_DEVICE void for_pooled_pixels(const Activation& activation,
                                             const ActivationBackward<T>& tensors, const Lanes& all,
                                             std::int64_t index, Work&& work) {
    const Run run(index, activation.width, pixel_run, pool_step);
    const PooledRow windows(activation, run.line);
    PerLane<Numbers<wide>> before, first, second;
    all.each([&](int lane) {
        before[lane] = windows
                           .template take<wide>(tensors, activation.channels, all, lane,
                                                run.first / pool_step - 1)
                           .columns[2];
    });
    for (std::int32_t turn = 0; turn < run.turns; ++turn) {
        const std::int32_t at = run.first + pool_step * turn;
        all.each([&](int lane) {
            const auto sent = windows.template take<wide>(tensors, activation.channels, all, lane,
                                                          at / pool_step);
            for (int i = 0; i < wide; ++i)
                first[lane].values[i] = sent.columns[0].values[i] + before[lane].values[i];
            second[lane] = sent.columns[1];
            before[lane] = sent.columns[2];
        });
        const std::int64_t pixel = run.line * activation.width + at;
        work(pixel, all.active_if(at < activation.width), first);
        work(pixel + 1, all.active_if(at + 1 < activation.width), second);
    }
}

// The block's sums of dx, before they are added up.
template <int wide>
struct BiasBuffer {
    Numbers<wide> sums[activation_threads];
};

template <Norm norm, bool pools, int wide, typename T>
CLIQUESIM_HOST_DEVICE void gradient_lanes(const Activation& activation,
                                          const ActivationBackward<T>& tensors, std::int64_t block,
                                          std::int64_t blocks, const RunLanes& mine,
                                          BiasBuffer<wide>& buffer) {
    const PerLane<Numbers<wide>> bias = load_bias<wide>(mine.lanes, tensors.bias);
    const bool rectifies = pools || activation.rectifies;
    PerLane<Numbers<wide>> sums;
    mine.lanes.each([&](int lane) { sums[lane] = {}; });
    // `slope` is dy before.
    const auto take = [&](std::int64_t pixel, const Lanes& lanes, PerLane<Numbers<wide>>& slope) {
        PerLane<Numbers<wide>> v;
        lanes.each([&](int lane) {
            const T* const x = tensors.x.first(wide * lane) + pixel * tensors.x.channels;
            v[lane] = activated<wide>(lanes.active, rectifies, x, bias[lane]);
        });
        differentiate<norm, pools>(activation, lanes, v, slope);
        lanes.each([&](int lane) {
            // Without a pixel no dy comes, and so no slope.
            for (int i = 0; i < wide; ++i) sums[lane].values[i] += slope[lane].values[i];
            store_numbers(lanes.active, slope[lane],
                          tensors.dx.first(wide * lane) + pixel * tensors.dx.channels);
        });
    };
    const auto load_and_take = [&](std::int64_t pixel, const Lanes& lanes) {
        PerLane<Numbers<wide>> dy;
        lanes.each([&](int lane) {
            dy[lane] = load_numbers<wide>(
                lanes.active, tensors.dy.first(wide * lane) + pixel * tensors.dy.channels);
        });
        take(pixel, lanes, dy);
    };
    const auto work = [&](std::int64_t run, const Lanes& lanes) {
        if constexpr (pools)
            for_pooled_pixels<wide>(activation, tensors, lanes, run, take);
        else
            for_pixels(activation, run, lanes, load_and_take);
    };
    for_runs(activation, activation.backward_runs(), block, blocks, mine, work);
    mine.lanes.each([&](int lane) {
        if (mine.lanes.active) buffer.sums[mine.lanes.first + lane] = sums[lane];
    });
}

template <int wide>
CLIQUESIM_HOST_DEVICE void add_bias_sums(const Activation& activation, std::int64_t block,
                                         int thread, const BiasBuffer<wide>& buffer,
                                         float* bias_sums) {
    for (std::int32_t c = thread; c < activation.channels; c += activation_threads) {
        float sum = 0;
        for (std::int32_t run = 0; run < activation.block_runs(); ++run)
            sum += buffer.sums[activation.first_thread(run) + c / wide].values[c % wide];
        bias_sums[block * activation.channels + c] = sum;
    }
}

// --- the gradient of the bias: sums over blocks, a thread block for some channels ---

inline constexpr int total_channels = 32, total_rows = 32;
inline constexpr int total_threads = total_channels * total_rows;

struct BiasTotal {
    const float* sums;  // rows x channels
    std::int64_t rows;
    std::int32_t channels;
    void* gradient;  // channels of Bfloat16 or float
    bool rounds;

    CLIQUESIM_HOST_DEVICE std::int32_t blocks() const {
        return (channels + total_channels - 1) / total_channels;
    }
};

struct TotalBuffer {
    float sums[total_rows][total_channels];
};

CLIQUESIM_HOST_DEVICE inline void add_rows(const BiasTotal& total, std::int32_t block, int thread,
                                           TotalBuffer& buffer) {
    const int row = thread / total_channels, column = thread % total_channels;
    const std::int32_t channel = block * total_channels + column;
    float sum = 0;
    if (channel < total.channels)
        for (std::int64_t i = row; i < total.rows; i += total_rows)
            sum += total.sums[i * total.channels + channel];
    buffer.sums[row][column] = sum;
}

CLIQUESIM_HOST_DEVICE inline void write_total(const BiasTotal& total, std::int32_t block,
                                              int thread, const TotalBuffer& buffer) {
    const std::int32_t channel = block * total_channels + thread;
    if (thread >= total_channels || channel >= total.channels) return;
    float sum = 0;
    for (const auto& row : buffer.sums) sum += row[thread];
    if (total.rounds)
        static_cast<Bfloat16*>(total.gradient)[channel] = from_float<Bfloat16>(sum);
    else
        static_cast<float*>(total.gradient)[channel] = sum;
}

}  // namespace cliquesim::training
