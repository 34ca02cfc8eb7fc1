// What follows a convolution, in one pass each way and without the launches: bias, rectification,
// local response normalisation over five neighbouring channels and maximum pooling (3 x 3, every
// second pixel). Channels lie next to each other (NHWC), a multiple of eight. Of x, with
// v = max(x + bias, 0):
//
//   s_c = k + share * sum of v_j^2 over |j - c| <= 2,  y_c = v_c s_c^-beta
//   dv_c = dy_c s_c^-beta - 2 share beta v_c * sum of dy_j v_j s_j^(-beta - 1) over |j - c| <= 2
//
// A thread goes over some pixels of a row with eight channels of its own and reads those of its
// neighbours that it needs. Pooling keeps which of the nine pixels was the largest, in a byte;
// backward, a thread takes every window of its row once. So nothing but x is kept, no number is
// added by two threads, and a seed repeats. Channels may lie in two halves, each a tensor of its
// own, as the groups of a convolution read and write them.
//
// Cost: forward reads x (pooling: rows that two windows share twice) and writes y, backward reads
// x and dy and writes dx, each once. What bounds both is arithmetic, some 20 (40) instructions a
// number: hence the single instructions below where there are such.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"

namespace cliquesim::training {

inline constexpr int activation_threads = 256;
inline constexpr int activation_channels = 8 * activation_threads;  // at most
inline constexpr int pool_side = 3, pool_step = 2;
inline constexpr std::int32_t pooled_run = 8;  // pooled pixels of a thread, neighbours in a row
inline constexpr std::int32_t pixel_run = pool_step * pooled_run;

// Whether to normalise; AlexNet's beta takes a sixth of the instructions of others.
enum class Norm { none, three_quarters, any };

struct Activation {
    std::int64_t count;                    // images
    std::int32_t height, width, channels;  // of x
    bool rectifies, normalises, pools;     // pools only what is rectified
    float share, beta, k;                  // share = alpha / 5

    CLIQUESIM_HOST_DEVICE Norm norm() const {
        if (!normalises) return Norm::none;
        return beta == 0.75F ? Norm::three_quarters : Norm::any;
    }
    CLIQUESIM_HOST_DEVICE std::int64_t pixels() const {
        return count * height * std::int64_t{width};
    }
    CLIQUESIM_HOST_DEVICE std::int32_t octets() const { return channels / 8; }
    // Thread t of a block works on octet t % octets() of run t / octets().
    CLIQUESIM_HOST_DEVICE std::int32_t block_runs() const { return activation_threads / octets(); }
    CLIQUESIM_HOST_DEVICE std::int32_t pooled_height() const { return pooled(height); }
    CLIQUESIM_HOST_DEVICE std::int32_t pooled_width() const { return pooled(width); }
    CLIQUESIM_HOST_DEVICE static std::int32_t pooled(std::int32_t side) {
        return side < pool_side ? 0 : (side - pool_side) / pool_step + 1;
    }
    // Runs of neighbours in a row: of pooled pixels, of pixels; without pooling of any pixels.
    CLIQUESIM_HOST_DEVICE std::int64_t forward_runs() const {
        if (!pools) return (pixels() + pixel_run - 1) / pixel_run;
        return count * pooled_height() * std::int64_t{pieces(pooled_width(), pooled_run)};
    }
    CLIQUESIM_HOST_DEVICE std::int64_t backward_runs() const {
        if (!pools) return forward_runs();
        return count * height * std::int64_t{pieces(width, pixel_run)};
    }
    CLIQUESIM_HOST_DEVICE static std::int32_t pieces(std::int32_t length, std::int32_t piece) {
        return (length + piece - 1) / piece;
    }
};

// Numbers of all pixels' channels, in one tensor or in two with half of the channels each.
template <typename T>
struct Channels {
    T* parts[2];
    std::int32_t octets;  // of a part

    CLIQUESIM_HOST_DEVICE T* first(std::int32_t octet) const {
        return octet < octets ? parts[0] + 8 * octet : parts[1] + 8 * (octet - octets);
    }
};

// Tensors of an activation. `bias` (channels) may be null. y, dy and `places` are of the pooled
// pixels, if any.
template <typename T>
struct ActivationForward {
    Channels<const T> x;
    const T* bias;
    Channels<T> y;
    std::uint8_t* places;  // of the largest in its window, 3 row + column; null without pooling
};

template <typename T>
struct ActivationBackward {
    Channels<const T> x;
    const T* bias;
    Channels<const T> dy;
    const std::uint8_t* places;
    Channels<T> dx;
    float* bias_sums;  // blocks x channels, of dx; null without a bias
};

// Eight neighbours, read at once.
template <typename T>
struct alignas(8 * sizeof(T) < 16 ? 8 * sizeof(T) : 16) Eight {
    T values[8];
};

// A thread's eight channels and four on both sides, 0 where there are none.
struct Sixteen {
    float values[16];
};

// Where a thread reads its channels of the first pixel; null where there are no neighbours.
template <typename T>
struct Lane {
    const T *own, *left, *right;
    std::int32_t stride;  // from pixel to pixel
};

template <typename T>
CLIQUESIM_HOST_DEVICE Lane<T> lane_of(const Activation& activation, const Channels<const T>& map,
                                      std::int32_t octet) {
    const bool last = octet + 1 == activation.octets();
    return {map.first(octet), octet > 0 ? map.first(octet - 1) + 4 : nullptr,
            last ? nullptr : map.first(octet + 1), 8 * map.octets};
}

// Without `around` the eight alone.
template <bool around, typename T>
CLIQUESIM_HOST_DEVICE Sixteen load_channels(const Lane<T>& lane, std::int64_t pixel) {
    Sixteen loaded{};
    const std::int64_t at = pixel * lane.stride;
    const Eight<T> own = *reinterpret_cast<const Eight<T>*>(lane.own + at);
    to_floats<8>(own.values, loaded.values + 4);
    if (around && lane.left != nullptr) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(lane.left + at);
        to_floats<4>(four.values, loaded.values);
    }
    if (around && lane.right != nullptr) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(lane.right + at);
        to_floats<4>(four.values, loaded.values + 12);
    }
    return loaded;
}

template <typename T>
CLIQUESIM_HOST_DEVICE void store_channels(const float* values, T* target) {
    Eight<T> out;
    from_floats<8>(values, out.values);
    *reinterpret_cast<Eight<T>*>(target) = out;
}

template <typename T>
CLIQUESIM_HOST_DEVICE Sixteen load_bias(const Activation& activation, const T* bias,
                                        std::int32_t octet) {
    if (bias == nullptr) return {};
    return load_channels<true>(
        lane_of<T>(activation, {{bias, nullptr}, activation.octets()}, octet), 0);
}

// --- arithmetic ---

// max(value, 0); NaN stays, and -0 becomes 0.
CLIQUESIM_HOST_DEVICE inline float rectified(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float larger;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(larger) : "f"(value));
    return larger;
#else
    return value > 0 || value != value ? value : 0.0F;
#endif
}

// s^-1/2 of a normal number.
CLIQUESIM_HOST_DEVICE inline float reciprocal_root(float value) {
#if defined(__CUDA_ARCH__)
    float root;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(value));
    return root;
#else
    return 1.0F / std::sqrt(value);
#endif
}

// s^-beta and 1 / s, for s above 0.
struct NormPowers {
    float power, inverse;
};

template <Norm norm>
CLIQUESIM_HOST_DEVICE NormPowers norm_powers(float s, float beta) {
    if (norm == Norm::three_quarters) {
        const float root = reciprocal_root(s), inverse = root * root;
        return {inverse * reciprocal_root(root), inverse};
    }
    return {exp2f(-beta * log2f(s)), 1.0F / s};
}

// The sums of the five numbers around each of values[first], ..., values[15 - first].
template <int first>
CLIQUESIM_HOST_DEVICE Sixteen sums_of_five(const Sixteen& values) {
    float pairs[16] = {};
    for (int i = first - 2; i < 17 - first; ++i) pairs[i] = values.values[i] + values.values[i + 1];
    Sixteen sums{};
    for (int i = first; i < 16 - first; ++i)
        sums.values[i] = pairs[i - 2] + pairs[i] + values.values[i + 2];
    return sums;
}

// v of one pixel: x with its bias, rectified.
template <bool around, typename T>
CLIQUESIM_HOST_DEVICE Sixteen activated(bool rectifies, const Lane<T>& x, std::int64_t pixel,
                                        const Sixteen& bias) {
    Sixteen v = load_channels<around>(x, pixel);
    for (int i = around ? 0 : 4; i < (around ? 16 : 12); ++i) {
        v.values[i] += bias.values[i];
        if (rectifies) v.values[i] = rectified(v.values[i]);
    }
    return v;
}

// y of a thread's eight channels, before pooling.
template <Norm norm, typename T>
CLIQUESIM_HOST_DEVICE Eight<float> evaluate(const Activation& activation, bool rectifies,
                                            const Lane<T>& x, std::int64_t pixel,
                                            const Sixteen& bias) {
    const Sixteen v = activated<norm != Norm::none>(rectifies, x, pixel, bias);
    Eight<float> y;
    for (int l = 0; l < 8; ++l) y.values[l] = v.values[4 + l];
    if (norm != Norm::none) {
        Sixteen squares{};
        for (int i = 2; i < 14; ++i) squares.values[i] = v.values[i] * v.values[i];
        const Sixteen sums = sums_of_five<4>(squares);
        for (int l = 0; l < 8; ++l) {
            const float s = activation.k + activation.share * sums.values[4 + l];
            y.values[l] *= norm_powers<norm>(s, activation.beta).power;
        }
    }
    return y;
}

// dx of one pixel from its v and dy.
template <Norm norm>
CLIQUESIM_HOST_DEVICE Eight<float> gradient(const Activation& activation, bool rectifies,
                                            const Sixteen& v, const Sixteen& dy) {
    Eight<float> dx;
    for (int l = 0; l < 8; ++l) dx.values[l] = dy.values[4 + l];
    if (norm != Norm::none) {
        Sixteen squares{}, direct{}, shared{};
        for (int i = 0; i < 16; ++i) squares.values[i] = v.values[i] * v.values[i];
        const Sixteen sums = sums_of_five<2>(squares);
        for (int i = 2; i < 14; ++i) {
            const float s = activation.k + activation.share * sums.values[i];
            const NormPowers powers = norm_powers<norm>(s, activation.beta);
            direct.values[i] = dy.values[i] * powers.power;
            shared.values[i] = direct.values[i] * v.values[i] * powers.inverse;
        }
        const Sixteen around = sums_of_five<4>(shared);
        const float scale = -2.0F * activation.share * activation.beta;
        for (int l = 0; l < 8; ++l)
            dx.values[l] = direct.values[4 + l] + scale * v.values[4 + l] * around.values[4 + l];
    }
    if (rectifies)
        for (int l = 0; l < 8; ++l)
            if (v.values[4 + l] == 0) dx.values[l] = 0;
    return dx;
}

// --- forward ---

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

template <typename T>
struct PoolKeys {
    typename PoolKey<T>::Type keys[8];
};

template <typename Key>
CLIQUESIM_HOST_DEVICE Key larger(Key a, Key b) {
    return a > b ? a : b;
}

template <typename T>
CLIQUESIM_HOST_DEVICE void take_row(const Eight<float>& y, int row, PoolKeys<T>& column) {
    const auto place = last_place - static_cast<unsigned>(pool_side * row);
    for (int l = 0; l < 8; ++l) {
        const auto key = PoolKey<T>::bits(y.values[l]) | place;
        column.keys[l] = row == 0 ? key : larger(column.keys[l], key);
    }
}

// The largest of a window's first column, if that begins at `pixel`.
template <Norm norm, typename T>
CLIQUESIM_HOST_DEVICE PoolKeys<T> largest_of_column(const Activation& activation, const Lane<T>& x,
                                                    std::int64_t pixel, const Sixteen& bias) {
    // Three names, as an array might not stay in registers.
    const std::int64_t row = activation.width;
    const Eight<float> upper = evaluate<norm>(activation, true, x, pixel, bias);
    const Eight<float> middle = evaluate<norm>(activation, true, x, pixel + row, bias);
    const Eight<float> lower = evaluate<norm>(activation, true, x, pixel + 2 * row, bias);
    PoolKeys<T> column;
    take_row(upper, 0, column);
    take_row(middle, 1, column);
    take_row(lower, 2, column);
    return column;
}

template <Norm norm, typename T>
CLIQUESIM_HOST_DEVICE void pool_run(const Activation& activation,
                                    const ActivationForward<T>& tensors, std::int64_t run,
                                    std::int32_t octet, const Lane<T>& x, const Sixteen& bias) {
    const std::int32_t across = activation.pooled_width(), down = activation.pooled_height();
    const std::int32_t pieces = Activation::pieces(across, pooled_run);
    const std::int64_t line = run / pieces;  // of pooled pixels
    const auto first = static_cast<std::int32_t>(run % pieces) * pooled_run;
    const std::int32_t last = first + pooled_run < across ? first + pooled_run : across;
    const std::int64_t top =
        (line / down * activation.height + line % down * pool_step) * activation.width;
    T* y = tensors.y.first(octet);
    PoolKeys<T> left = largest_of_column<norm>(activation, x, top + pool_step * first, bias);
    for (std::int32_t at = first; at < last; ++at) {
        const std::int64_t column = top + pool_step * at;
        const auto middle = largest_of_column<norm>(activation, x, column + 1, bias);
        const auto right = largest_of_column<norm>(activation, x, column + 2, bias);
        Eight<T> values;
        Eight<std::uint8_t> places;
        for (int l = 0; l < 8; ++l) {
            // A place in the second column is one later, in the third two.
            const auto key = larger(larger(left.keys[l], middle.keys[l] - 1), right.keys[l] - 2);
            values.values[l] = PoolKey<T>::value(key);
            places.values[l] = static_cast<std::uint8_t>(last_place - (key & last_place));
        }
        left = right;
        const std::int64_t target = line * across + at;
        *reinterpret_cast<Eight<T>*>(y + target * 8 * tensors.y.octets) = values;
        *reinterpret_cast<Eight<std::uint8_t>*>(tensors.places + target * activation.channels +
                                                8 * octet) = places;
    }
}

// The runs of one thread: every run_step-th from first_run on.
template <Norm norm, bool pools, typename T>
CLIQUESIM_HOST_DEVICE void activate_thread(const Activation& activation,
                                           const ActivationForward<T>& tensors,
                                           std::int64_t first_run, std::int64_t run_step,
                                           std::int32_t octet) {
    const Sixteen bias = load_bias(activation, tensors.bias, octet);
    const Lane<T> x = lane_of(activation, tensors.x, octet);
    for (std::int64_t run = first_run; run < activation.forward_runs(); run += run_step) {
        if (pools) {
            pool_run<norm>(activation, tensors, run, octet, x, bias);
            continue;
        }
        const std::int64_t first = run * pixel_run, end = first + pixel_run;
        const std::int64_t stop = end < activation.pixels() ? end : activation.pixels();
        for (std::int64_t pixel = first; pixel < stop; ++pixel) {
            const Eight<float> y = evaluate<norm>(activation, activation.rectifies, x, pixel, bias);
            store_channels(y.values, tensors.y.first(octet) + pixel * 8 * tensors.y.octets);
        }
    }
}

// --- backward ---

// What the windows of one column send to the pixels of a row, by the pixels' column in the window.
struct Sent {
    Sixteen columns[pool_side];
};

template <bool around, typename T>
CLIQUESIM_HOST_DEVICE void take_window(const Lane<T>& dy, const Lane<std::uint8_t>& places,
                                       std::int64_t window, int row, Sent& sent) {
    const Sixteen above = load_channels<around>(dy, window);
    const std::int64_t at = window * places.stride;
    std::uint8_t place[16] = {};
    const Eight<std::uint8_t> own = *reinterpret_cast<const Eight<std::uint8_t>*>(places.own + at);
    for (int l = 0; l < 8; ++l) place[4 + l] = own.values[l];
    if (around && places.left != nullptr) {
        const Four<std::uint8_t> four =
            *reinterpret_cast<const Four<std::uint8_t>*>(places.left + at);
        for (int l = 2; l < 4; ++l) place[l] = four.values[l];
    }
    if (around && places.right != nullptr) {
        const Four<std::uint8_t> four =
            *reinterpret_cast<const Four<std::uint8_t>*>(places.right + at);
        for (int l = 0; l < 2; ++l) place[12 + l] = four.values[l];
    }
    // Where there is no channel, `above` is 0.
    for (int i = around ? 2 : 4; i < (around ? 14 : 12); ++i)
        for (int column = 0; column < pool_side; ++column)
            if (place[i] == pool_side * row + column)
                sent.columns[column].values[i] += above.values[i];
}

template <bool around, typename T>
CLIQUESIM_HOST_DEVICE Sent take_windows(const Activation& activation, const Lane<T>& dy,
                                        const Lane<std::uint8_t>& places, std::int64_t image,
                                        std::int32_t y, std::int32_t column) {
    Sent sent{};
    const std::int32_t across = activation.pooled_width(), down = activation.pooled_height();
    if (column < 0 || column >= across) return sent;
    const std::int32_t row = y / pool_step;
    const std::int64_t window = (image * down + row) * across + column;
    if (row < down) take_window<around>(dy, places, window, y % pool_step, sent);
    if (y % pool_step == 0 && row > 0)
        take_window<around>(dy, places, window - across, pool_step, sent);
    return sent;
}

// The pixels of a row from x on, at most a run of them, with what their windows send.
template <bool around, typename T, typename Work>
CLIQUESIM_HOST_DEVICE void for_pooled_pixels(const Activation& activation, const Lane<T>& dy,
                                             const Lane<std::uint8_t>& places, std::int64_t run,
                                             Work&& work) {
    const std::int32_t pieces = Activation::pieces(activation.width, pixel_run);
    const std::int64_t line = run / pieces;
    const auto x = static_cast<std::int32_t>(run % pieces) * pixel_run;
    const std::int64_t image = line / activation.height;
    const auto y = static_cast<std::int32_t>(line % activation.height);
    const std::int32_t end = x + pixel_run < activation.width ? x + pixel_run : activation.width;
    Sixteen before =
        take_windows<around>(activation, dy, places, image, y, x / pool_step - 1).columns[2];
    for (std::int32_t at = x; at < end; at += pool_step) {
        Sent sent = take_windows<around>(activation, dy, places, image, y, at / pool_step);
        for (int i = 0; i < 16; ++i) sent.columns[0].values[i] += before.values[i];
        before = sent.columns[2];
        const std::int64_t pixel = line * activation.width + at;
        work(pixel, sent.columns[0]);
        if (at + 1 < end) work(pixel + 1, sent.columns[1]);
    }
}

// The block's sums of dx, before they are added up.
struct BiasBuffer {
    Eight<float> sums[activation_threads];
};

template <Norm norm, bool pools, typename T>
CLIQUESIM_HOST_DEVICE void gradient_thread(const Activation& activation,
                                           const ActivationBackward<T>& tensors, std::int64_t block,
                                           std::int64_t blocks, int thread, BiasBuffer& buffer) {
    const std::int32_t octets = activation.octets(), runs = activation.block_runs();
    const std::int32_t octet = thread % octets, mine = thread / octets;
    Eight<float> sums{};
    if (mine < runs) {
        const Sixteen bias = load_bias(activation, tensors.bias, octet);
        const Lane<T> x = lane_of(activation, tensors.x, octet);
        const Lane<T> dy = lane_of(activation, tensors.dy, octet);
        T* const dx = tensors.dx.first(octet);
        const bool rectifies = pools || activation.rectifies;
        const auto work = [&](std::int64_t pixel, const Sixteen& above) {
            const Sixteen v = activated<norm != Norm::none>(rectifies, x, pixel, bias);
            const Eight<float> slope = gradient<norm>(activation, rectifies, v, above);
            for (int l = 0; l < 8; ++l) sums.values[l] += slope.values[l];
            store_channels(slope.values, dx + pixel * 8 * tensors.dx.octets);
        };
        for (std::int64_t run = block * runs + mine; run < activation.backward_runs();
             run += blocks * runs) {
            if (pools) {
                const Lane<std::uint8_t> places =
                    lane_of<std::uint8_t>(activation, {{tensors.places, nullptr}, octets}, octet);
                for_pooled_pixels<norm != Norm::none>(activation, dy, places, run, work);
                continue;
            }
            const std::int64_t first = run * pixel_run, end = first + pixel_run;
            const std::int64_t stop = end < activation.pixels() ? end : activation.pixels();
            for (std::int64_t pixel = first; pixel < stop; ++pixel)
                work(pixel, load_channels<norm != Norm::none>(dy, pixel));
        }
    }
    buffer.sums[thread] = sums;
}

CLIQUESIM_HOST_DEVICE inline void add_bias_sums(const Activation& activation, std::int64_t block,
                                                int thread, const BiasBuffer& buffer,
                                                float* bias_sums) {
    const std::int32_t octets = activation.octets(), runs = activation.block_runs();
    for (std::int32_t c = thread; c < activation.channels; c += activation_threads) {
        float sum = 0;
        for (std::int32_t run = 0; run < runs; ++run)
            sum += buffer.sums[run * octets + c / 8].values[c % 8];
        bias_sums[block * activation.channels + c] = sum;
    }
}

}  // namespace cliquesim::training
