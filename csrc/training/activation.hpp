// What follows a convolution, in one pass each way and without the launches: bias, rectification,
// local response normalisation over five neighbouring channels and maximum pooling (3 x 3, every
// second pixel). Channels lie next to each other (NHWC), a multiple of eight. Of x, with
// v = max(x + bias, 0):
//
//   s_c = k + share * sum of v_j^2 over |j - c| <= 2,  y_c = v_c s_c^-beta
//   dv_c = dy_c s_c^-beta - 2 share beta v_c * sum of dy_j v_j s_j^(-beta - 1) over |j - c| <= 2
//
// A pixel's channels are shared out over the lanes of a warp, which go over some pixels of a row
// together and tell each other what lies on both sides; without normalisation over any threads of
// a block. Pooling keeps which of the nine pixels was the largest, in a byte; backward, a lane
// takes every window of its row once. So nothing but x is kept, no number is added by two threads,
// and a seed repeats. Channels may lie in two halves, each a tensor of its own, as the groups of a
// convolution read and write them.
//
// Cost: forward reads x (pooling: rows that two windows share twice) and writes y, backward reads
// x and dy and writes dx, each once. What bounds both is arithmetic, some 20 (35) instructions a
// number: hence the single instructions below where there are such.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"
#include "common/warp.hpp"

namespace cliquesim::training {

inline constexpr int activation_threads = 256;
inline constexpr int pool_side = 3, pool_step = 2;
inline constexpr std::int32_t pooled_run = 8;  // pooled pixels of a run at most, in a row
inline constexpr std::int32_t pixel_run = pool_step * pooled_run;
static_assert(activation_threads <= most_lanes);
// The largest's place in its window is 3 row + column; if that is 0, no gradient passes.
inline constexpr std::uint8_t nowhere = 15;

// Whether to normalise; AlexNet's beta takes a sixth of the instructions of others.
enum class Norm { none, three_quarters, any };

// The lanes that a thread belongs to, and which of the block's runs is theirs.
struct RunLanes {
    Lanes lanes;  // not active if the block has no run for them
    std::int32_t run;
};

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
    // Channels of a lane: eight, or twelve where only then no lane of a warp is idle.
    CLIQUESIM_HOST_DEVICE std::int32_t lane_channels() const {
        const bool fits = channels > 0 && channels % 24 == 0 && warp_lanes % (channels / 12) == 0;
        return normalises && fits && warp_lanes % (channels / 8) != 0 ? 12 : 8;
    }
    CLIQUESIM_HOST_DEVICE std::int32_t lanes() const { return channels / lane_channels(); }
    // Threads that can tell each other what they need to.
    CLIQUESIM_HOST_DEVICE std::int32_t together() const {
        return normalises ? warp_lanes : activation_threads;
    }
    CLIQUESIM_HOST_DEVICE bool fits() const {
        return channels > 0 && channels % 8 == 0 && lanes() <= together();
    }
    // Of a block. Every run has `lanes` threads next to each other from its first on.
    CLIQUESIM_HOST_DEVICE std::int32_t block_runs() const {
        return activation_threads / together() * (together() / lanes());
    }
    CLIQUESIM_HOST_DEVICE std::int32_t first_thread(std::int32_t run) const {
        const std::int32_t runs = together() / lanes();
        return run / runs * together() + run % runs * lanes();
    }
    CLIQUESIM_HOST_DEVICE RunLanes lanes_of(std::int32_t thread) const {
        const std::int32_t runs = together() / lanes(), at = thread % together();
        const bool active = at < runs * lanes();
        return {{thread - at % lanes(), lanes(), at % lanes(), active},
                thread / together() * runs + at / lanes()};
    }
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
    CLIQUESIM_HOST_DEVICE static std::int32_t pieces(std::int32_t length, std::int32_t most) {
        return (length + most - 1) / most;
    }
};

// Part of a row: about as long as the row's other runs, and all take as many turns.
struct Run {
    std::int64_t line;   // of all rows of all images
    std::int32_t first;  // a multiple of `step`
    std::int32_t turns;  // of `step` each; the last run may end before

    CLIQUESIM_HOST_DEVICE Run(std::int64_t run, std::int32_t length, std::int32_t most,
                              std::int32_t step) {
        const std::int32_t pieces = Activation::pieces(length, most);
        line = run / pieces;
        turns = Activation::pieces(length, pieces * step);
        first = static_cast<std::int32_t>(run % pieces) * turns * step;
    }
};

// The runs of some lanes of block `block`, of `runs` in all: a block has as many after each other
// as it has lanes for. Calls work(run, lanes).
template <typename Work>
CLIQUESIM_HOST_DEVICE void for_runs(const Activation& activation, std::int64_t runs,
                                    std::int64_t block, std::int64_t blocks, const RunLanes& mine,
                                    Work&& work) {
    const std::int64_t each = activation.block_runs();
    for (std::int64_t first = block * each; first < runs; first += blocks * each) {
        const std::int64_t run = first + mine.run;
        work(run, mine.lanes.active_if(run < runs));
    }
}

// The pixels of a run without pooling. Calls work(pixel, lanes).
template <typename Work>
CLIQUESIM_HOST_DEVICE void for_pixels(const Activation& activation, std::int64_t run,
                                      const Lanes& lanes, Work&& work) {
    for (int turn = 0; turn < pixel_run; ++turn) {
        const std::int64_t pixel = run * pixel_run + turn;
        work(pixel, lanes.active_if(pixel < activation.pixels()));
    }
}

// Numbers of all pixels' channels, in one tensor or in two with half of the channels each.
template <typename T>
struct Channels {
    T* parts[2];
    std::int32_t channels;  // of a part

    CLIQUESIM_HOST_DEVICE T* first(std::int32_t channel) const {
        return channel < channels ? parts[0] + channel : parts[1] + (channel - channels);
    }
};

template <int count, typename T>
CLIQUESIM_HOST_DEVICE Numbers<count> load_numbers(bool active, const T* source) {
    using Words = Piece<std::uint32_t, count * sizeof(T) / sizeof(std::uint32_t)>;
    Words read{};
    if (active) read = *reinterpret_cast<const Words*>(source);
    Numbers<count> loaded;
    to_floats<T, count>(read.values, loaded.values);
    return loaded;
}

template <int count, typename T>
CLIQUESIM_HOST_DEVICE void store_numbers(bool active, const Numbers<count>& numbers, T* target) {
    if (!active) return;
    Piece<T, count> piece;
    from_floats<count>(numbers.values, piece.values);
    *reinterpret_cast<Piece<T, count>*>(target) = piece;
}

template <int wide, typename T>
CLIQUESIM_HOST_DEVICE PerLane<Numbers<wide>> load_bias(const Lanes& lanes, const T* bias) {
    PerLane<Numbers<wide>> loaded;
    lanes.each([&](int lane) {
        loaded[lane] = {};
        if (bias != nullptr) loaded[lane] = load_numbers<wide>(true, bias + wide * lane);
    });
    return loaded;
}

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

// v: x with its bias, rectified.
template <int wide, typename T>
CLIQUESIM_HOST_DEVICE Numbers<wide> activated(bool active, bool rectifies, const T* x,
                                              const Numbers<wide>& bias) {
    Numbers<wide> v = load_numbers<wide>(active, x);
    for (int i = 0; i < wide; ++i) {
        v.values[i] += bias.values[i];
        if (rectifies) v.values[i] = rectified(v.values[i]);
    }
    return v;
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

// The root of a normal number.
CLIQUESIM_HOST_DEVICE inline float root_of(float value) {
#if defined(__CUDA_ARCH__)
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(value));
    return root;
#else
    return std::sqrt(value);
#endif
}

// s^-beta and 1 / s, for s above 0.
struct NormPowers {
    float power, inverse;
};

template <Norm norm>
CLIQUESIM_HOST_DEVICE NormPowers norm_powers(float s, float beta) {
    if (norm == Norm::three_quarters) {
        const float root = reciprocal_root(s);
        return {root * root_of(root), root * root};
    }
    return {exp2f(-beta * log2f(s)), 1.0F / s};
}

// For each of a lane's numbers the sum of the five around it. Two neighbours share four of them.
template <int wide>
CLIQUESIM_HOST_DEVICE Numbers<wide> sums_of_five(const Numbers<wide>& own, const Edges& edges) {
    float all[wide + 4], pairs[wide / 2 + 1];
    for (int i = 0; i < 2; ++i) {
        all[i] = edges.before[i];
        all[wide + 2 + i] = edges.after[i];
    }
    for (int i = 0; i < wide; ++i) all[2 + i] = own.values[i];
    for (int i = 0; i <= wide / 2; ++i) pairs[i] = all[2 * i + 1] + all[2 * i + 2];
    Numbers<wide> sums;
    for (int i = 0; i < wide / 2; ++i) {
        const float shared = pairs[i] + pairs[i + 1];
        sums.values[2 * i] = shared + all[2 * i];
        sums.values[2 * i + 1] = shared + all[2 * i + 5];
    }
    return sums;
}

// s of a pixel's channels from their v.
template <int wide>
CLIQUESIM_HOST_DEVICE void norm_sums(const Activation& activation, const Lanes& lanes,
                                     const PerLane<Numbers<wide>>& v, PerLane<Numbers<wide>>& s) {
    PerLane<Numbers<wide>> squares;
    PerLane<Edges> edges;
    lanes.each([&](int lane) {
        for (int i = 0; i < wide; ++i)
            squares[lane].values[i] = v[lane].values[i] * v[lane].values[i];
    });
    lanes.tell(squares, edges);
    lanes.each([&](int lane) {
        s[lane] = sums_of_five(squares[lane], edges[lane]);
        for (float& sum : s[lane].values) sum = activation.k + activation.share * sum;
    });
}

}  // namespace cliquesim::training
