// Local search on Eq. (1) for blocks of threads: one exchange search and its state.
//
// A block's work is a sequence of phases, each a function of (thread, threads) with a barrier after
// it: `Block::all`. `Block::size` is the number of threads, a power of two, `Block::candidates` has
// room for one of each. Code between phases runs in every thread alike; what it reads is written in
// phases only, with a barrier between the last reading and the next writing.
#pragma once

#include <cstdint>
#include <limits>

#include "common/host_device.hpp"

namespace cliquesim {

inline constexpr double never = std::numeric_limits<double>::infinity();

// What all searches share. Device pointers on the device, host pointers in the test.
struct KickTables {
    std::int64_t cliques, samples, batches, per_batch;
    double tolerance;          // exchanges must gain more than the rounding of the sums
    const double* similarity;  // S', (K, K)
    const double* weights;     // of samples
    // What the c-th cover of a sample is worth, c from 0 (nothing) on.
    const double* batch_gain;                 // (r + 2)
    const double* total_gain;                 // (B r + 2)
    const std::int64_t *offsets, *indices;    // C: samples of a clique
    const std::int64_t *by_sample, *holders;  // C^T: cliques of a sample
    // Clique k overlaps with others[pair_offsets[k] .. pair_offsets[k + 1]), ascending, and itself;
    // entry i shares the samples shared[shared_offsets[i] .. shared_offsets[i + 1]).
    const std::int64_t *pair_offsets, *others, *shared_offsets, *shared;
};

// One binary X with what an exchange changes kept up to date.
struct KickState {
    std::int32_t* members;   // (B, r)
    std::int32_t* total;     // 1 X C, (N)
    double* similarity;      // X S', (B, K)
    std::uint8_t* selected;  // X, (B, K)
};

// Of the batch that is looked at.
struct KickScratch {
    double* worth;     // of one more cover of a sample, (N)
    double* last;      // of a sample's last cover, (N)
    double* addition;  // change of Eq. (1) when a clique joins, infinite for members, (K)
    double* removal;   // when a member leaves, (r)
};

struct KickMove {
    std::int32_t batch, slot, out, in;
};

struct KickCandidate {
    double change;
    std::int64_t pair;  // slot * K + clique
};

// Shared by the threads of a block.
struct KickControl {
    double change;  // of Eq. (1) by the moves so far
    std::int64_t batch, idle;
    std::int32_t moves;
    bool exchanging;
};

CLIQUESIM_HOST_DEVICE inline bool kick_better(const KickCandidate& a, const KickCandidate& b) {
    return a.change < b.change || (a.change == b.change && a.pair < b.pair);
}

// The best of what body(thread, threads) finds in each thread.
template <typename Block, typename Body>
CLIQUESIM_HOST_DEVICE KickCandidate smallest(Block& block, const Body& body) {
    KickCandidate* candidates = block.candidates;
    block.all([&](std::int64_t thread, std::int64_t threads) {
        candidates[thread] = body(thread, threads);
    });
    for (std::int64_t half = block.size() / 2; half > 0; half /= 2)
        block.all([&](std::int64_t thread, std::int64_t) {
            if (thread < half && kick_better(candidates[thread + half], candidates[thread]))
                candidates[thread] = candidates[thread + half];
        });
    return candidates[0];
}

// worth, last, addition and removal of batch b.
template <typename Block>
CLIQUESIM_HOST_DEVICE void look_at(Block& block, const KickTables& t, const KickState& s,
                                   const KickScratch& scratch, std::int64_t b) {
    const std::uint8_t* selected = s.selected + b * t.cliques;
    block.all([&](std::int64_t thread, std::int64_t threads) {
        for (std::int64_t n = thread; n < t.samples; n += threads) {
            std::int64_t count = 0;
            for (std::int64_t i = t.by_sample[n]; i < t.by_sample[n + 1]; ++i)
                count += selected[t.holders[i]];
            const std::int64_t total = s.total[n];
            scratch.worth[n] = t.weights[n] * (t.batch_gain[count + 1] + t.total_gain[total + 1]);
            scratch.last[n] = t.weights[n] * (t.batch_gain[count] + t.total_gain[total]);
        }
    });
    const double* sums = s.similarity + b * t.cliques;
    block.all([&](std::int64_t thread, std::int64_t threads) {
        for (std::int64_t i = thread; i < t.cliques + t.per_batch; i += threads) {
            const bool leaves = i >= t.cliques;
            const std::int64_t k = leaves ? s.members[b * t.per_batch + i - t.cliques] : i;
            const double* worth = leaves ? scratch.last : scratch.worth;
            double covered = 0;
            for (std::int64_t e = t.offsets[k]; e < t.offsets[k + 1]; ++e)
                covered += worth[t.indices[e]];
            if (leaves)
                scratch.removal[i - t.cliques] =
                    covered - 2 * (sums[k] - t.similarity[k * t.cliques + k]);
            else
                scratch.addition[k] = selected[k] ? never : 2 * sums[k] - covered;
        }
    });
}

// Change of Eq. (1) when `in` takes the place of a member of the batch that was looked at.
CLIQUESIM_HOST_DEVICE inline double change_of_pair(const KickTables& t, const KickScratch& scratch,
                                                   std::int64_t slot, std::int64_t out,
                                                   std::int64_t in) {
    double change =
        scratch.removal[slot] + scratch.addition[in] - 2 * t.similarity[out * t.cliques + in];
    std::int64_t begin = t.pair_offsets[out];
    const std::int64_t end = t.pair_offsets[out + 1];
    for (std::int64_t length = end - begin; length > 0;) {
        const std::int64_t half = length / 2;
        const bool right = t.others[begin + half] < in;
        begin += right ? half + 1 : 0;
        length = right ? length - half - 1 : half;
    }
    if (begin == end || t.others[begin] != in) return change;
    // A sample of both cliques keeps its count: take back what was counted twice.
    for (std::int64_t e = t.shared_offsets[begin]; e < t.shared_offsets[begin + 1]; ++e)
        change += scratch.worth[t.shared[e]] - scratch.last[t.shared[e]];
    return change;
}

// The best exchange of one thread's share of the pairs.
CLIQUESIM_HOST_DEVICE inline KickCandidate scan_pairs(const KickTables& t, const KickState& s,
                                                      const KickScratch& scratch, std::int64_t b,
                                                      std::int64_t thread, std::int64_t threads) {
    KickCandidate best{never, -1};
    for (std::int64_t pair = thread; pair < t.per_batch * t.cliques; pair += threads) {
        const std::int64_t slot = pair / t.cliques, in = pair % t.cliques;
        if (s.selected[b * t.cliques + in]) continue;
        const std::int64_t out = s.members[b * t.per_batch + slot];
        const KickCandidate found{change_of_pair(t, scratch, slot, out, in), pair};
        if (kick_better(found, best)) best = found;
    }
    return best;
}

template <typename Block>
CLIQUESIM_HOST_DEVICE void exchange(Block& block, const KickTables& t, const KickState& s,
                                    const KickMove& move) {
    const std::int64_t b = move.batch;
    std::int32_t* members = s.members + b * t.per_batch;
    block.all([&](std::int64_t thread, std::int64_t threads) {
        if (thread == 0) {
            members[move.slot] = move.in;
            s.selected[b * t.cliques + move.out] = 0;
            s.selected[b * t.cliques + move.in] = 1;
        }
        for (std::int64_t e = t.offsets[move.out] + thread; e < t.offsets[move.out + 1];
             e += threads)
            --s.total[t.indices[e]];
    });
    block.all([&](std::int64_t thread, std::int64_t threads) {
        for (std::int64_t e = t.offsets[move.in] + thread; e < t.offsets[move.in + 1]; e += threads)
            ++s.total[t.indices[e]];
        // Summed anew, so that no rounding piles up over many exchanges.
        for (std::int64_t k = thread; k < t.cliques; k += threads) {
            double sum = 0;
            for (std::int64_t i = 0; i < t.per_batch; ++i)
                sum += t.similarity[members[i] * t.cliques + k];
            s.similarity[b * t.cliques + k] = sum;
        }
    });
}

// Looks at the move's batch, adds the change to control's and makes the move.
template <typename Block>
CLIQUESIM_HOST_DEVICE void move_and_count(Block& block, const KickTables& t, const KickState& s,
                                          const KickScratch& scratch, KickControl& control,
                                          const KickMove& move) {
    look_at(block, t, s, scratch, move.batch);
    block.all([&](std::int64_t thread, std::int64_t) {
        if (thread == 0) control.change += change_of_pair(t, scratch, move.slot, move.out, move.in);
    });
    exchange(block, t, s, move);
}

// In each batch in turn, from control.batch on, the exchange that lowers Eq. (1) most, until none
// does or the trail is full.
template <typename Block>
CLIQUESIM_HOST_DEVICE void descend(Block& block, const KickTables& t, const KickState& s,
                                   const KickScratch& scratch, KickControl& control,
                                   KickMove* trail, std::int32_t capacity) {
    while (control.idle < t.batches) {
        const std::int64_t b = control.batch;
        look_at(block, t, s, scratch, b);
        const KickCandidate best = smallest(block, [&](std::int64_t thread, std::int64_t threads) {
            return scan_pairs(t, s, scratch, b, thread, threads);
        });
        block.all([&](std::int64_t thread, std::int64_t) {
            if (thread != 0) return;
            control.exchanging = best.change < -t.tolerance && control.moves < capacity;
            if (control.exchanging) {
                const auto slot = static_cast<std::int32_t>(best.pair / t.cliques);
                trail[control.moves++] = {static_cast<std::int32_t>(b), slot,
                                          s.members[b * t.per_batch + slot],
                                          static_cast<std::int32_t>(best.pair % t.cliques)};
                control.change += best.change;
                control.idle = 0;
            } else {
                control.batch = (b + 1) % t.batches;
                ++control.idle;
            }
        });
        if (control.exchanging) exchange(block, t, s, trail[control.moves - 1]);
    }
}

}  // namespace cliquesim
