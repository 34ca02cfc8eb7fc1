// What follows a convolution, in one pass each way and without the launches: bias, rectification,
// local response normalisation over five neighbouring channels and maximum pooling (3 x 3, every
// second pixel). Channels lie next to each other (NHWC), a multiple of eight. Of x, with
// v = max(x + bias, 0):
//
//   s_c = k + share * sum of v_j^2 over |j - c| <= 2,  y_c = v_c s_c^-beta
//   dv_c = dy_c s_c^-beta - 2 share beta v_c * sum of dy_j v_j s_j^(-beta - 1) over |j - c| <= 2
//
// A thread goes over some pixels with eight channels of its own and reads those of its neighbours
// that it needs. Pooling keeps which of the nine pixels was the largest, in a byte; backward, a
// pixel gathers from the up to four windows that it lies in. So nothing but x is kept, no number is
// added by two threads, and a seed repeats.
//
// Cost: forward reads x (pooling: rows that two windows share twice) and writes y, backward reads
// x and dy and writes dx, each once.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"

namespace cliquesim::training {

inline constexpr int activation_threads = 256;
inline constexpr int activation_channels = 8 * activation_threads;  // at most
inline constexpr int pool_side = 3, pool_step = 2;
inline constexpr std::int32_t pooled_run = 8;  // pooled pixels of a thread, neighbours in a row
inline constexpr std::int32_t pixel_run = pool_step * pooled_run;

struct Activation {
    std::int64_t count;                    // images
    std::int32_t height, width, channels;  // of x
    bool rectifies, normalises, pools;
    float share, beta, k;  // share = alpha / 5

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

// Tensors of an activation. `bias` (channels) may be null; `places` and the pooled y and dy are
// count x pooled_height x pooled_width x channels.
template <typename T>
struct ActivationForward {
    const T* x;
    const T* bias;
    T* y;
    std::uint8_t* places;  // of the largest in its window, 3 row + column; null without pooling
};

template <typename T>
struct ActivationBackward {
    const T* x;
    const T* bias;
    const T* dy;
    const std::uint8_t* places;
    T* dx;
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

// Without `around` the eight alone.
template <bool around, typename T>
CLIQUESIM_HOST_DEVICE Sixteen load_channels(const T* pixel, std::int32_t octet,
                                            std::int32_t octets) {
    Sixteen loaded{};
    const Eight<T> own = *reinterpret_cast<const Eight<T>*>(pixel + 8 * octet);
    for (int l = 0; l < 8; ++l) loaded.values[4 + l] = to_float(own.values[l]);
    if (around && octet > 0) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(pixel + 8 * octet - 4);
        for (int l = 0; l < 4; ++l) loaded.values[l] = to_float(four.values[l]);
    }
    if (around && octet + 1 < octets) {
        const Four<T> four = *reinterpret_cast<const Four<T>*>(pixel + 8 * octet + 8);
        for (int l = 0; l < 4; ++l) loaded.values[12 + l] = to_float(four.values[l]);
    }
    return loaded;
}

template <typename T>
CLIQUESIM_HOST_DEVICE void store_channels(const float* values, T* target) {
    Eight<T> out;
    for (int l = 0; l < 8; ++l) out.values[l] = from_float<T>(values[l]);
    *reinterpret_cast<Eight<T>*>(target) = out;
}

// s^-beta and 1 / s, for s above 0.
struct NormPowers {
    float power, inverse;
};

CLIQUESIM_HOST_DEVICE inline float reciprocal_root(float value) {
#if defined(__CUDA_ARCH__)
    return rsqrtf(value);
#else
    return 1.0F / std::sqrt(value);
#endif
}

CLIQUESIM_HOST_DEVICE inline NormPowers norm_powers(float s, float beta) {
    if (beta == 0.75F) {  // AlexNet's, with a sixth of the instructions
        const float root = reciprocal_root(s), inverse = root * root;
        return {inverse * reciprocal_root(root), inverse};
    }
    return {exp2f(-beta * log2f(s)), 1.0F / s};
}

// The sum of the five numbers around values[i].
CLIQUESIM_HOST_DEVICE inline float sum_of_five(const float* values, int i) {
    return values[i - 2] + values[i - 1] + values[i] + values[i + 1] + values[i + 2];
}

// v of one pixel: x with its bias, rectified.
template <bool around, typename T>
CLIQUESIM_HOST_DEVICE Sixteen activated(const Activation& activation, const T* pixel,
                                        const Sixteen& bias, std::int32_t octet) {
    Sixteen v = load_channels<around>(pixel, octet, activation.octets());
    for (int i = around ? 0 : 4; i < (around ? 16 : 12); ++i) {
        v.values[i] += bias.values[i];
        if (activation.rectifies && v.values[i] < 0) v.values[i] = 0;  // NaN stays
    }
    return v;
}

// y of a thread's eight channels, before pooling.
template <bool normalises, typename T>
CLIQUESIM_HOST_DEVICE Eight<float> evaluate(const Activation& activation, const T* pixel,
                                            const Sixteen& bias, std::int32_t octet) {
    const Sixteen v = activated<normalises>(activation, pixel, bias, octet);
    Eight<float> y;
    for (int l = 0; l < 8; ++l) y.values[l] = v.values[4 + l];
    if (normalises) {
        float squares[16];
        for (int i = 2; i < 14; ++i) squares[i] = v.values[i] * v.values[i];
        for (int l = 0; l < 8; ++l) {
            const float s = activation.k + activation.share * sum_of_five(squares, 4 + l);
            y.values[l] *= norm_powers(s, activation.beta).power;
        }
    }
    return y;
}

// dv of one pixel from its v and dy, to the first eight of dy.
template <bool normalises>
CLIQUESIM_HOST_DEVICE Eight<float> gradient(const Activation& activation, const Sixteen& v,
                                            const Sixteen& dy) {
    Eight<float> dx;
    for (int l = 0; l < 8; ++l) dx.values[l] = dy.values[4 + l];
    if (normalises) {
        float squares[16], direct[16], shared[16];
        for (int i = 0; i < 16; ++i) squares[i] = v.values[i] * v.values[i];
        for (int i = 2; i < 14; ++i) {
            const float s = activation.k + activation.share * sum_of_five(squares, i);
            const NormPowers powers = norm_powers(s, activation.beta);
            direct[i] = dy.values[i] * powers.power;
            shared[i] = direct[i] * v.values[i] * powers.inverse;
        }
        const float scale = 2.0F * activation.share * activation.beta;
        for (int l = 0; l < 8; ++l)
            dx.values[l] = direct[4 + l] - scale * v.values[4 + l] * sum_of_five(shared, 4 + l);
    }
    if (activation.rectifies)
        for (int l = 0; l < 8; ++l)
            if (v.values[4 + l] == 0) dx.values[l] = 0;
    return dx;
}

// --- forward ---

// The largest in a column of a window, and its row.
struct Largest {
    float values[8];
    std::uint8_t places[8];
};

CLIQUESIM_HOST_DEVICE inline void take_largest(const float* values, const std::uint8_t* places,
                                               int shift, Largest& largest) {
    for (int l = 0; l < 8; ++l) {
        const auto place = static_cast<std::uint8_t>(places[l] + shift);
        const bool same = values[l] == largest.values[l];
        if (values[l] > largest.values[l] || values[l] != values[l] ||
            (same && place < largest.places[l])) {
            largest.values[l] = values[l];
            largest.places[l] = place;
        }
    }
}

template <bool normalises, typename T>
CLIQUESIM_HOST_DEVICE Largest largest_of_column(const Activation& activation, const T* top,
                                                const Sixteen& bias, std::int32_t octet) {
    const std::int64_t row = std::int64_t{activation.width} * activation.channels;
    // Three names, as an array might not stay in registers.
    const Eight<float> upper = evaluate<normalises>(activation, top, bias, octet);
    const Eight<float> middle = evaluate<normalises>(activation, top + row, bias, octet);
    const Eight<float> lower = evaluate<normalises>(activation, top + 2 * row, bias, octet);
    Largest largest{};
    for (int l = 0; l < 8; ++l) largest.values[l] = upper.values[l];
    const std::uint8_t none[8] = {};
    take_largest(middle.values, none, pool_side, largest);
    take_largest(lower.values, none, 2 * pool_side, largest);
    return largest;
}

template <bool normalises, typename T>
CLIQUESIM_HOST_DEVICE void pool_run(const Activation& activation,
                                    const ActivationForward<T>& tensors, std::int64_t run,
                                    std::int32_t octet, const Sixteen& bias) {
    const std::int32_t across = activation.pooled_width(), down = activation.pooled_height();
    const std::int32_t pieces = Activation::pieces(across, pooled_run);
    const std::int64_t line = run / pieces;  // of pooled pixels
    const auto first = static_cast<std::int32_t>(run % pieces) * pooled_run;
    const std::int32_t last = first + pooled_run < across ? first + pooled_run : across;
    const std::int64_t image = line / down;
    const auto top = static_cast<std::int32_t>(line % down) * pool_step;
    const std::int32_t channels = activation.channels;
    const T* x = tensors.x + (image * activation.height + top) * activation.width * channels;
    const auto column = [&](std::int32_t at) {
        return largest_of_column<normalises>(activation, x + std::int64_t{at} * channels, bias,
                                             octet);
    };
    Largest left = column(pool_step * first);
    for (std::int32_t at = first; at < last; ++at) {
        Largest window = left;
        const Largest middle = column(pool_step * at + 1), right = column(pool_step * at + 2);
        take_largest(middle.values, middle.places, 1, window);
        take_largest(right.values, right.places, 2, window);
        left = right;
        const std::int64_t target = (line * across + at) * channels + 8 * octet;
        store_channels(window.values, tensors.y + target);
        Eight<std::uint8_t> places;
        for (int l = 0; l < 8; ++l) places.values[l] = window.places[l];
        *reinterpret_cast<Eight<std::uint8_t>*>(tensors.places + target) = places;
    }
}

template <typename T>
CLIQUESIM_HOST_DEVICE Sixteen load_bias(const Activation& activation, const T* bias,
                                        std::int32_t octet) {
    return bias == nullptr ? Sixteen{} : load_channels<true>(bias, octet, activation.octets());
}

// The runs of one thread: every run_step-th from first_run on.
template <bool normalises, bool pools, typename T>
CLIQUESIM_HOST_DEVICE void activate_thread(const Activation& activation,
                                           const ActivationForward<T>& tensors,
                                           std::int64_t first_run, std::int64_t run_step,
                                           std::int32_t octet) {
    const Sixteen bias = load_bias(activation, tensors.bias, octet);
    for (std::int64_t run = first_run; run < activation.forward_runs(); run += run_step) {
        if (pools) {
            pool_run<normalises>(activation, tensors, run, octet, bias);
            continue;
        }
        const std::int64_t first = run * pixel_run, end = first + pixel_run;
        const std::int64_t stop = end < activation.pixels() ? end : activation.pixels();
        for (std::int64_t pixel = first; pixel < stop; ++pixel) {
            const std::int64_t at = pixel * activation.channels;
            const Eight<float> y = evaluate<normalises>(activation, tensors.x + at, bias, octet);
            store_channels(y.values, tensors.y + at + 8 * octet);
        }
    }
}

// --- backward ---

// Adds what the windows around a pixel send to it.
template <bool around, typename T>
CLIQUESIM_HOST_DEVICE void gather_windows(const Activation& activation,
                                          const ActivationBackward<T>& tensors, std::int64_t image,
                                          std::int32_t y, std::int32_t x, std::int32_t octet,
                                          Sixteen& dy) {
    const std::int32_t across = activation.pooled_width(), down = activation.pooled_height();
    const std::int32_t channels = activation.channels;
    for (std::int32_t row = y / pool_step - (y % pool_step == 0 ? 1 : 0); row <= y / pool_step;
         ++row) {
        if (row < 0 || row >= down) continue;
        for (std::int32_t column = x / pool_step - (x % pool_step == 0 ? 1 : 0);
             column <= x / pool_step; ++column) {
            if (column < 0 || column >= across) continue;
            const std::int64_t at = ((image * down + row) * across + column) * channels;
            const auto place = static_cast<std::uint8_t>(pool_side * (y - pool_step * row) + x -
                                                         pool_step * column);
            const Sixteen sent = load_channels<around>(tensors.dy + at, octet, activation.octets());
            const std::uint8_t* places = tensors.places + at + 8 * octet;
            const Eight<std::uint8_t> own = *reinterpret_cast<const Eight<std::uint8_t>*>(places);
            for (int l = 0; l < 8; ++l)
                if (own.values[l] == place) dy.values[4 + l] += sent.values[4 + l];
            if (around && octet > 0) {
                const Four<std::uint8_t> left =
                    *reinterpret_cast<const Four<std::uint8_t>*>(places - 4);
                for (int l = 2; l < 4; ++l)
                    if (left.values[l] == place) dy.values[l] += sent.values[l];
            }
            if (around && octet + 1 < activation.octets()) {
                const Four<std::uint8_t> right =
                    *reinterpret_cast<const Four<std::uint8_t>*>(places + 8);
                for (int l = 0; l < 2; ++l)
                    if (right.values[l] == place) dy.values[12 + l] += sent.values[12 + l];
            }
        }
    }
}

template <bool normalises, bool pools, typename T>
CLIQUESIM_HOST_DEVICE void gradient_run(const Activation& activation,
                                        const ActivationBackward<T>& tensors, std::int64_t run,
                                        std::int32_t octet, const Sixteen& bias,
                                        Eight<float>& sums) {
    std::int64_t first = run * pixel_run, end = activation.pixels();  // pixels
    std::int64_t image = 0;
    std::int32_t y = 0, x = 0;
    if (pools) {
        const std::int32_t pieces = Activation::pieces(activation.width, pixel_run);
        const std::int64_t line = run / pieces;
        x = static_cast<std::int32_t>(run % pieces) * pixel_run;
        image = line / activation.height;
        y = static_cast<std::int32_t>(line % activation.height);
        first = line * activation.width + x;
        end = (line + 1) * activation.width;
    }
    if (first + pixel_run < end) end = first + pixel_run;
    for (std::int64_t pixel = first; pixel < end; ++pixel, ++x) {
        const std::int64_t at = pixel * activation.channels;
        Sixteen dy{};
        if (pools)
            gather_windows<normalises>(activation, tensors, image, y, x, octet, dy);
        else
            dy = load_channels<normalises>(tensors.dy + at, octet, activation.octets());
        const Sixteen v = activated<normalises>(activation, tensors.x + at, bias, octet);
        const Eight<float> dx = gradient<normalises>(activation, v, dy);
        for (int l = 0; l < 8; ++l) sums.values[l] += dx.values[l];
        store_channels(dx.values, tensors.dx + at + 8 * octet);
    }
}

// The block's sums of dx, before they are added up.
struct BiasBuffer {
    Eight<float> sums[activation_threads];
};

template <bool normalises, bool pools, typename T>
CLIQUESIM_HOST_DEVICE void gradient_thread(const Activation& activation,
                                           const ActivationBackward<T>& tensors, std::int64_t block,
                                           std::int64_t blocks, int thread, BiasBuffer& buffer) {
    const std::int32_t octets = activation.octets(), runs = activation.block_runs();
    const std::int32_t octet = thread % octets, mine = thread / octets;
    Eight<float> sums{};
    if (mine < runs) {
        const Sixteen bias = load_bias(activation, tensors.bias, octet);
        for (std::int64_t run = block * runs + mine; run < activation.backward_runs();
             run += blocks * runs)
            gradient_run<normalises, pools>(activation, tensors, run, octet, bias, sums);
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
