// The forward pass of activation.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "training/activation.hpp"

namespace cliquesim::training {

// `bias` (channels) may be null. y and `places` are of the pooled pixels, if any.
template <typename T>
struct ActivationForward {
    Channels<const T> x;
    const T* bias;
    Channels<T> y;
    std::uint8_t* places;  // of the largest in its window, or `nowhere`; null without pooling
};

// y of one pixel, before pooling.
template <Norm norm, int wide, typename T>
CLIQUESIM_HOST_DEVICE void evaluate(const Activation& activation, const Lanes& lanes,
                                    bool rectifies, const Channels<const T>& x, std::int64_t pixel,
                                    const PerLane<Numbers<wide>>& bias, PerLane<Numbers<wide>>& y) {
    lanes.each([&](int lane) {
        const T* const source = x.first(wide * lane) + pixel * x.channels;
        y[lane] = activated<wide>(lanes.active, rectifies, source, bias[lane]);
    });
    if (norm == Norm::none) return;
    PerLane<Numbers<wide>> s;
    norm_sums(activation, lanes, y, s);
    lanes.each([&](int lane) {
        for (int i = 0; i < wide; ++i)
            y[lane].values[i] *= norm_powers<norm>(s[lane].values[i], activation.beta).power;
    });
}

// A rounded number, which is not below 0, and below its bits its place in a window, so that the
// larger key is that of the larger number and, at ties, of the first place; NaN has the largest.
template <typename T>
struct PoolKey;

template <>
struct PoolKey<Bfloat16> {
    using Type = std::uint32_t;
    CLIQUESIM_HOST_DEVICE static Type bits(float value) { return rounded_pair(0, value); }
    CLIQUESIM_HOST_DEVICE static Bfloat16 value(Type key) {
        return {static_cast<std::uint16_t>(key >> 16U)};
    }
};

template <>
struct PoolKey<float> {
    using Type = std::uint64_t;
    CLIQUESIM_HOST_DEVICE static Type bits(float value) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        return std::uint64_t{bits} << 16U;
    }
    CLIQUESIM_HOST_DEVICE static float value(Type key) {
        const auto bits = static_cast<std::uint32_t>(key >> 16U);
        float value = 0;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

inline constexpr unsigned last_place = 15;  // what is below the bits counts backwards from here

template <typename T, int wide>
struct PoolKeys {
    typename PoolKey<T>::Type keys[wide];
};

template <typename Key>
CLIQUESIM_HOST_DEVICE Key larger(Key a, Key b) {
    return a > b ? a : b;
}

// The largest of a window's first column, if that begins at `pixel`.
template <Norm norm, int wide, typename T>
CLIQUESIM_HOST_DEVICE void largest_of_column(const Activation& activation, const Lanes& lanes,
                                             const Channels<const T>& x, std::int64_t pixel,
                                             const PerLane<Numbers<wide>>& bias,
                                             PerLane<PoolKeys<T, wide>>& column) {
    const auto take = [&](int row) {
        PerLane<Numbers<wide>> y;
        evaluate<norm>(activation, lanes, true, x, pixel + row * activation.width, bias, y);
        const auto place = last_place - static_cast<unsigned>(pool_side * row);
        lanes.each([&](int lane) {
            for (int i = 0; i < wide; ++i) {
                const auto key = PoolKey<T>::bits(y[lane].values[i]) | place;
                auto& best = column[lane].keys[i];
                best = row == 0 ? key : larger(best, key);
            }
        });
    };
    take(0);  // one by one, as a loop might not be unrolled
    take(1);
    take(2);
}

template <Norm norm, int wide, typename T>
CLIQUESIM_HOST_DEVICE void pool_run(const Activation& activation,
                                    const ActivationForward<T>& tensors, std::int64_t index,
                                    const Lanes& all, const PerLane<Numbers<wide>>& bias) {
    const std::int32_t across = activation.pooled_width(), down = activation.pooled_height();
    const Run run(index, across, pooled_run, 1);  // of pooled pixels
    const std::int64_t top =
        (run.line / down * activation.height + run.line % down * pool_step) * activation.width;
    PerLane<PoolKeys<T, wide>> left, middle, right;
    largest_of_column<norm>(activation, all.active_if(run.first < across), tensors.x,
                            top + pool_step * run.first, bias, left);
    for (std::int32_t turn = 0; turn < run.turns; ++turn) {
        const std::int32_t at = run.first + turn;
        const Lanes lanes = all.active_if(at < across);
        const std::int64_t column = top + pool_step * at, target = run.line * across + at;
        largest_of_column<norm>(activation, lanes, tensors.x, column + 1, bias, middle);
        largest_of_column<norm>(activation, lanes, tensors.x, column + 2, bias, right);
        lanes.each([&](int lane) {
            Piece<T, wide> values;
            Piece<std::uint8_t, wide> places;
            for (int i = 0; i < wide; ++i) {
                // A place in the second column is one later, in the third two.
                const auto key = larger(larger(left[lane].keys[i], middle[lane].keys[i] - 1),
                                        right[lane].keys[i] - 2);
                values.values[i] = PoolKey<T>::value(key);
                places.values[i] = key > last_place
                                       ? static_cast<std::uint8_t>(last_place - (key & last_place))
                                       : nowhere;
            }
            left[lane] = right[lane];
            if (!lanes.active) return;
            T* const y = tensors.y.first(wide * lane) + target * tensors.y.channels;
            std::uint8_t* const place = tensors.places + target * activation.channels + wide * lane;
            *reinterpret_cast<Piece<T, wide>*>(y) = values;
            *reinterpret_cast<Piece<std::uint8_t, wide>*>(place) = places;
        });
    }
}

template <Norm norm, bool pools, int wide, typename T>
CLIQUESIM_HOST_DEVICE void activate_lanes(const Activation& activation,
                                          const ActivationForward<T>& tensors, std::int64_t block,
                                          std::int64_t blocks, const RunLanes& mine) {
    const PerLane<Numbers<wide>> bias = load_bias<wide>(mine.lanes, tensors.bias);
    const auto store = [&](std::int64_t pixel, const Lanes& lanes) {
        PerLane<Numbers<wide>> y;
        evaluate<norm>(activation, lanes, activation.rectifies, tensors.x, pixel, bias, y);
        lanes.each([&](int lane) {
            store_numbers(lanes.active, y[lane],
                          tensors.y.first(wide * lane) + pixel * tensors.y.channels);
        });
    };
    const auto work = [&](std::int64_t run, const Lanes& lanes) {
        if constexpr (pools)
            pool_run<norm>(activation, tensors, run, lanes, bias);
        else
            for_pixels(activation, run, lanes, store);
    };
    for_runs(activation, activation.forward_runs(), block, blocks, mine, work);
}

}  // namespace cliquesim::training
