// The CUDA kernels of complete linkage without their launches: rounds of reciprocal nearest
// neighbours and the nearest-neighbour chain on a resident square, with the choices of
// resident.cpp. The kernels and a host test call these functions once per thread and phase.
//
// A merge is written to rows and columns at once. All pairs of a round are disjoint, and dead
// columns are never written, so that every element is written by one thread from elements that no
// other thread of the phase writes.
#pragma once

#include <cstdint>
#include <limits>

#include "common/atomics.hpp"
#include "common/host_device.hpp"

namespace cliquesim {

template <typename T>
struct LeafMerge {
    std::int32_t leaf_a, leaf_b;
    T height;
};

struct RoundCounts {
    std::int32_t pairs;
    std::int32_t lost;  // clusters that must look for their neighbour again
};

struct ChainState {
    std::int32_t length;  // of the chain
    std::int32_t top;
    std::int32_t first;  // clusters before it are dead
    std::int32_t alive_count;
    std::int32_t merged;  // merges of all rounds and chains so far
    std::int32_t a, b;    // merge now; b < 0: no merge
};

template <typename T>
struct Candidate {
    T distance;
    std::int32_t cluster;
};

// Behind every cluster, those at infinity too.
template <typename T>
inline constexpr Candidate<T> no_candidate{std::numeric_limits<T>::infinity(),
                                           std::numeric_limits<std::int32_t>::max()};

inline constexpr std::int32_t max_chain_blocks = 256;

// Clusters are columns 0 .. width - 1. All arrays have room for the initial width; device pointers
// on the device, host pointers in the test.
template <typename T>
struct SquareClusters {
    T* distances;
    std::int64_t stride;
    std::int32_t width;
    std::int32_t* row_of;  // of a cluster: its row of the square, which is also one of its leaves
    std::uint8_t* alive;
    std::int32_t* nearest;
    T* nearest_distance;
    std::int32_t* merged_into;  // of a cluster that merges in this round: the smaller; else -1
    std::int32_t* pairs;        // the smaller clusters of this round's pairs
    std::int32_t* lost;
    std::int32_t* kept;  // old columns, when columns are compacted
    std::int32_t* chain;
    Candidate<T>* candidates;  // of every block, max_chain_blocks
    LeafMerge<T>* merges;
    RoundCounts* counts;
    ChainState* state;

    CLIQUESIM_HOST_DEVICE T* row(std::int32_t c) const { return distances + row_of[c] * stride; }
};

template <typename T>
CLIQUESIM_HOST_DEVICE inline T larger(T a, T b) {
    return a < b ? b : a;
}

// The smallest index among equals.
template <typename T>
CLIQUESIM_HOST_DEVICE inline Candidate<T> nearer(Candidate<T> x, Candidate<T> y) {
    const bool second =
        y.distance < x.distance || (y.distance == x.distance && y.cluster < x.cluster);
    return second ? y : x;
}

// Phase 1 of a round, for every cluster: is it one of a pair? The larger of a pair dies.
template <typename T>
CLIQUESIM_HOST_DEVICE inline void find_pair(const SquareClusters<T>& s, std::int32_t c,
                                            std::int32_t merged) {
    if (!s.alive[c]) return;
    const std::int32_t other = s.nearest[c];
    const bool mutual = s.nearest[other] == c;
    s.merged_into[c] = !mutual ? -1 : c < other ? c : other;
    if (!mutual) return;
    if (other < c) {
        s.alive[c] = 0;
        return;
    }
    const std::int32_t slot = take_slot(&s.counts->pairs);
    s.pairs[slot] = c;
    s.merges[merged + slot] = {s.row_of[c], s.row_of[other], s.nearest_distance[c]};
}

// Phase 2, for every pair and column: b, which is dead by now, goes into a.
template <typename T>
CLIQUESIM_HOST_DEVICE inline void merge_column(const SquareClusters<T>& s, std::int32_t a,
                                               std::int32_t b, std::int32_t j) {
    if (!s.alive[j] || j == a) return;
    T* into = s.row(a);
    const T* from = s.row(b);
    T value = larger(into[j], from[j]);
    if (s.merged_into[j] == j) {  // another pair, which writes its own row itself
        const std::int32_t other = s.nearest[j];
        value = larger(value, larger(into[other], from[other]));
    } else {
        s.row(j)[a] = value;
    }
    into[j] = value;
}

// Phase 3, for every cluster: a merged neighbour at the same distance as before stays, under the
// smaller index.
template <typename T>
CLIQUESIM_HOST_DEVICE inline void follow_neighbor(const SquareClusters<T>& s, std::int32_t c) {
    if (!s.alive[c]) return;
    const std::int32_t target = s.merged_into[s.nearest[c]];
    if (target < 0) return;
    if (target != c && s.row(c)[target] == s.nearest_distance[c])
        s.nearest[c] = target;
    else
        s.lost[take_slot(&s.counts->lost)] = c;
}

// Phase 4, for every lost cluster, one block: each thread looks through some columns, then the
// candidates are halved until one is left.
template <typename T>
CLIQUESIM_HOST_DEVICE inline Candidate<T> scan_columns(const SquareClusters<T>& s, std::int32_t c,
                                                       std::int32_t thread, std::int32_t threads) {
    const T* values = s.row(c);
    Candidate<T> best{no_candidate<T>.distance, no_candidate<T>.cluster};
#pragma unroll 8
    for (std::int32_t j = thread; j < s.width; j += threads) {
        const T value = values[j];
        if (s.alive[j] && j != c) best = nearer(best, {value, j});
    }
    return best;
}

template <typename T>
CLIQUESIM_HOST_DEVICE inline void halve_candidates(Candidate<T>* candidates, std::int32_t thread,
                                                   std::int32_t half) {
    if (thread < half) candidates[thread] = nearer(candidates[thread], candidates[thread + half]);
}

template <typename T>
CLIQUESIM_HOST_DEVICE inline void set_neighbor(const SquareClusters<T>& s, std::int32_t c,
                                               Candidate<T> found) {
    // The last cluster has none.
    s.nearest[c] = found.cluster < s.width ? found.cluster : c;
    s.nearest_distance[c] = found.distance;
}

// Compaction, for every kept row, one block: columns move to the left, a chunk at a time. kept[j]
// >= j, so a chunk never overwrites what a later one reads.
template <typename T>
CLIQUESIM_HOST_DEVICE inline void gather_chunk(const SquareClusters<T>& s, std::int32_t old_row,
                                               std::int32_t begin, std::int32_t end, T* chunk,
                                               std::int32_t thread, std::int32_t threads) {
    const T* values = s.row(old_row);
    for (std::int32_t j = begin + thread; j < end; j += threads)
        chunk[j - begin] = values[s.kept[j]];
}

template <typename T>
CLIQUESIM_HOST_DEVICE inline void put_chunk(const SquareClusters<T>& s, std::int32_t old_row,
                                            std::int32_t begin, std::int32_t end, const T* chunk,
                                            std::int32_t thread, std::int32_t threads) {
    T* values = s.row(old_row);
    for (std::int32_t j = begin + thread; j < end; j += threads) values[j] = chunk[j - begin];
}

// The chain's step: the nearest cluster of its top, from every block's candidate (scan_columns);
// then either that goes on top or the two uppermost merge (merge_column, with merged_into = -1
// everywhere).
template <typename T>
CLIQUESIM_HOST_DEVICE inline void find_top(const SquareClusters<T>& s) {
    ChainState& state = *s.state;
    if (state.length == 0) {
        while (!s.alive[state.first]) ++state.first;
        s.chain[state.length++] = state.first;
    }
    state.top = s.chain[state.length - 1];
}

template <typename T>
CLIQUESIM_HOST_DEVICE inline Candidate<T> block_candidate(const SquareClusters<T>& s,
                                                          std::int32_t block, std::int32_t blocks) {
    if (block < blocks) return s.candidates[block];
    return {no_candidate<T>.distance, no_candidate<T>.cluster};
}

template <typename T>
CLIQUESIM_HOST_DEVICE inline void advance_chain(const SquareClusters<T>& s, Candidate<T> next) {
    ChainState& state = *s.state;
    const std::int32_t top = state.top;
    const std::int32_t before = state.length > 1 ? s.chain[state.length - 2] : -1;
    state.b = -1;
    if (before < 0 || s.row(top)[before] != next.distance) {
        s.chain[state.length++] = next.cluster;
    } else {
        state.a = top < before ? top : before;
        state.b = top < before ? before : top;
        state.length -= 2;
        state.alive_count -= 1;
        s.alive[state.b] = 0;
        s.merges[state.merged++] = {s.row_of[state.a], s.row_of[state.b], next.distance};
    }
    find_top(s);
}

}  // namespace cliquesim
