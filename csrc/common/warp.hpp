// Threads of a block that are in step and tell each other numbers, for code that CUDA and the host
// compile: on the device a thread is one lane and holds its own numbers, on the host, for tests,
// one thread takes all lanes in turn.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

inline constexpr std::int32_t warp_lanes = 32;
inline constexpr std::int32_t most_lanes = 256;  // on the host

template <int count>
struct Numbers {
    float values[count];
};

// A T of every lane.
template <typename T>
struct PerLane {
#if defined(__CUDA_ARCH__)
    T own;
    CLIQUESIM_HOST_DEVICE T& operator[](int) { return own; }
    CLIQUESIM_HOST_DEVICE const T& operator[](int) const { return own; }
#else
    T all[most_lanes];
    T& operator[](int lane) { return all[lane]; }
    const T& operator[](int lane) const { return all[lane]; }
#endif
};

// Two numbers of the lane before and two of the lane after; 0 where there is none.
struct Edges {
    float before[2], after[2];
};

struct Lanes {
    std::int32_t first;  // thread of the block
    std::int32_t count;
    std::int32_t own;  // on the device: this thread's
    bool active;       // or without numbers of their own: they neither read nor write

    CLIQUESIM_HOST_DEVICE Lanes active_if(bool too) const {
        return {first, count, own, active && too};
    }

    // What every lane does, until they tell each other.
    template <typename Work>
    CLIQUESIM_HOST_DEVICE void each(Work&& work) const {
#if defined(__CUDA_ARCH__)
        work(own);
#else
        for (int lane = count - 1; lane >= 0; --lane) work(lane);
#endif
    }

    // These lanes are of one warp, and all threads of the warp come here together.
    template <int size>
    CLIQUESIM_HOST_DEVICE void tell(const PerLane<Numbers<size>>& numbers,
                                    PerLane<Edges>& edges) const {
#if defined(__CUDA_ARCH__)
        const bool is_first = own == 0, is_last = own + 1 == count;
        for (int i = 0; i < 2; ++i) {
            const float before = __shfl_up_sync(~0U, numbers.own.values[size - 2 + i], 1);
            const float after = __shfl_down_sync(~0U, numbers.own.values[i], 1);
            edges.own.before[i] = is_first ? 0.0F : before;
            edges.own.after[i] = is_last ? 0.0F : after;
        }
#else
        for (int lane = 0; lane < count; ++lane)
            for (int i = 0; i < 2; ++i) {
                edges[lane].before[i] = lane == 0 ? 0 : numbers[lane - 1].values[size - 2 + i];
                edges[lane].after[i] = lane + 1 == count ? 0 : numbers[lane + 1].values[i];
            }
#endif
    }
};

}  // namespace cliquesim
