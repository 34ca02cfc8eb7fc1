// Fresh candidates join the best of a row, in the CUDA kernels of the neighbours: the work of one
// thread block, as phases between which it synchronises. O(k log f + f^2) for f fresh ones among
// the k best; the lists stay sorted, so that nothing is left to do at the end.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"
#include "neighbors/candidate_key.hpp"

namespace cliquesim {

// The best of every row so far.
struct CandidateLists {
    std::uint64_t* keys;  // (rows, k), best first; 0 where there are none yet
    float* bounds;        // per row: what is less cannot enter; infinity if k = 0
    std::int64_t k;
};

inline constexpr std::int32_t fresh_room = 256;  // fresh candidates of a row at a time
inline constexpr std::int32_t merge_threads = 64;

// What a block shares.
struct MergeBuffer {
    std::uint64_t fresh[fresh_room];
    std::uint64_t sorted[fresh_room];
    std::int64_t places[fresh_room];
    std::uint64_t moved[merge_threads];
    std::int64_t moved_to[merge_threads];
    std::int32_t count;  // of the fresh ones
};

// How many of the keys, greatest first, are greater.
CLIQUESIM_HOST_DEVICE inline std::int64_t count_greater(const std::uint64_t* keys,
                                                        std::int64_t count, std::uint64_t key) {
    std::int64_t begin = 0, end = count;
    while (begin < end) {
        const std::int64_t middle = begin + (end - begin) / 2;
        if (keys[middle] > key)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

CLIQUESIM_HOST_DEVICE inline void sort_fresh(MergeBuffer& buffer, std::int32_t thread) {
    for (std::int32_t j = thread; j < buffer.count; j += merge_threads) {
        const std::uint64_t key = buffer.fresh[j];
        std::int32_t greater = 0;
        for (std::int32_t i = 0; i < buffer.count; ++i) greater += buffer.fresh[i] > key ? 1 : 0;
        buffer.sorted[greater] = key;
    }
}

CLIQUESIM_HOST_DEVICE inline void place_fresh(const std::uint64_t* best, std::int64_t k,
                                              MergeBuffer& buffer, std::int32_t thread) {
    for (std::int32_t j = thread; j < buffer.count; j += merge_threads)
        buffer.places[j] = j + count_greater(best, k, buffer.sorted[j]);
}

// The last places before `end`, one per thread. They move to the right: what lies there has moved.
CLIQUESIM_HOST_DEVICE inline void take_moving(const std::uint64_t* best, std::int64_t end,
                                              MergeBuffer& buffer, std::int32_t thread) {
    const std::int64_t place = end - 1 - thread;
    if (place < 0) return;
    const std::uint64_t key = best[place];
    buffer.moved[thread] = key;
    buffer.moved_to[thread] = place + count_greater(buffer.sorted, buffer.count, key);
}

CLIQUESIM_HOST_DEVICE inline void put_moving(std::uint64_t* best, std::int64_t k, std::int64_t end,
                                             const MergeBuffer& buffer, std::int32_t thread) {
    if (end - 1 - thread < 0) return;
    if (buffer.moved_to[thread] < k) best[buffer.moved_to[thread]] = buffer.moved[thread];
}

CLIQUESIM_HOST_DEVICE inline void put_fresh(std::uint64_t* best, std::int64_t k,
                                            const MergeBuffer& buffer, std::int32_t thread) {
    for (std::int32_t j = thread; j < buffer.count; j += merge_threads)
        if (buffer.places[j] < k) best[buffer.places[j]] = buffer.sorted[j];
}

CLIQUESIM_HOST_DEVICE inline void set_bound(const CandidateLists& lists, std::int64_t row) {
    const std::uint64_t last = lists.keys[row * lists.k + lists.k - 1];
    lists.bounds[row] = last == 0 ? -infinite_score : key_score(last);
}

// Merges buffer.fresh, buffer.count keys, into the row's best. `every(phase)` calls phase(thread)
// for all threads of the block, and then they synchronise.
template <typename Every>
CLIQUESIM_HOST_DEVICE void merge_fresh(const CandidateLists& lists, std::int64_t row,
                                       MergeBuffer& buffer, const Every& every) {
    const std::int64_t k = lists.k;
    std::uint64_t* best = lists.keys + row * k;
    every([&](std::int32_t thread) { sort_fresh(buffer, thread); });
    every([&](std::int32_t thread) { place_fresh(best, k, buffer, thread); });
    const std::int64_t first = buffer.count == 0 ? k : buffer.places[0];
    for (std::int64_t end = k; end > first; end -= merge_threads) {
        every([&](std::int32_t thread) { take_moving(best, end, buffer, thread); });
        every([&](std::int32_t thread) { put_moving(best, k, end, buffer, thread); });
    }
    every([&](std::int32_t thread) { put_fresh(best, k, buffer, thread); });
    every([&](std::int32_t thread) {
        if (thread == 0) set_bound(lists, row);
    });
}

}  // namespace cliquesim
