// Kicks of one selection, many at a time: every block kicks a copy of its own and descends, one
// block then takes over what ended lower. Most kicks end higher, so that little work is lost.
#pragma once

#include "batches/kick_search.hpp"
#include "batches/split_mix.hpp"

namespace cliquesim {

// What a kick ended with; no moves: not lower than it began.
struct KickResult {
    double change;
    std::int64_t moves;
};

// State `number` of all that lie one after the other in memory.
CLIQUESIM_HOST_DEVICE inline KickState kick_state(const KickTables& t, const KickState& first,
                                                  std::int64_t number) {
    return {first.members + number * t.batches * t.per_batch, first.total + number * t.samples,
            first.similarity + number * t.batches * t.cliques,
            first.selected + number * t.batches * t.cliques};
}

CLIQUESIM_HOST_DEVICE inline std::int64_t kick_scratch_size(const KickTables& t) {
    return 2 * t.samples + t.cliques + t.per_batch;
}

CLIQUESIM_HOST_DEVICE inline KickScratch kick_scratch(const KickTables& t, double* memory) {
    return {memory, memory + t.samples, memory + 2 * t.samples, memory + 2 * t.samples + t.cliques};
}

template <typename Block>
CLIQUESIM_HOST_DEVICE void copy_state(Block& block, const KickTables& t, const KickState& from,
                                      const KickState& to) {
    block.all([&](std::int64_t thread, std::int64_t threads) {
        for (std::int64_t i = thread; i < t.batches * t.per_batch; i += threads)
            to.members[i] = from.members[i];
        for (std::int64_t n = thread; n < t.samples; n += threads) to.total[n] = from.total[n];
        for (std::int64_t i = thread; i < t.batches * t.cliques; i += threads) {
            to.similarity[i] = from.similarity[i];
            to.selected[i] = from.selected[i];
        }
    });
}

// Kick `number` of `best`, in the copy `own`; needs r < K. Two or three members of one batch, or of
// two, give way to random cliques; a descent follows.
template <typename Block>
CLIQUESIM_HOST_DEVICE void kick_block(Block& block, const KickTables& t, const KickState& best,
                                      const KickState& own, const KickScratch& scratch,
                                      KickControl& control, KickMove* trail, std::int32_t capacity,
                                      std::uint64_t seed, std::int64_t number, KickResult& result) {
    copy_state(block, t, best, own);
    block.all([&](std::int64_t thread, std::int64_t) {
        if (thread == 0) control = {0, 0, 0, 0, false};
    });
    SplitMix64 generator(seed + 0xd1342543de82ef95ULL * static_cast<std::uint64_t>(number));
    const std::int64_t exchanges = 2 + generator.below(2);
    std::int64_t b = generator.below(t.batches);
    for (std::int64_t i = 0; i < exchanges; ++i) {
        if (generator.below(3) == 0) b = generator.below(t.batches);
        const std::int64_t slot = generator.below(t.per_batch);
        std::int64_t in = generator.below(t.cliques);
        while (own.selected[b * t.cliques + in]) in = (in + 1) % t.cliques;
        const KickMove move{static_cast<std::int32_t>(b), static_cast<std::int32_t>(slot),
                            own.members[b * t.per_batch + slot], static_cast<std::int32_t>(in)};
        move_and_count(block, t, own, scratch, control, move);
        block.all([&](std::int64_t thread, std::int64_t) {
            if (thread != 0) return;
            trail[control.moves++] = move;
            control.batch = b;
        });
    }
    descend(block, t, own, scratch, control, trail, capacity);
    block.all([&](std::int64_t thread, std::int64_t) {
        const bool lower = control.change < -t.tolerance;
        if (thread == 0) result = {control.change, lower ? control.moves : 0};
    });
}

// The result with the lowest change that is left, or -1.
CLIQUESIM_HOST_DEVICE inline std::int64_t lowest_result(const KickResult* results,
                                                        std::int64_t count) {
    std::int64_t best = -1;
    for (std::int64_t p = 0; p < count; ++p)
        if (results[p].moves > 0 && (best < 0 || results[p].change < results[best].change))
            best = p;
    return best;
}

// Makes the moves of one trail if all are possible and Eq. (1) falls by them.
template <typename Block>
CLIQUESIM_HOST_DEVICE void take_over(Block& block, const KickTables& t, const KickState& best,
                                     const KickScratch& scratch, KickControl& control,
                                     const KickMove* trail, std::int64_t moves) {
    block.all([&](std::int64_t thread, std::int64_t) {
        if (thread == 0) control.change = 0;
    });
    std::int64_t made = 0;
    for (; made < moves; ++made) {
        const KickMove& move = trail[made];
        const bool possible = best.members[move.batch * t.per_batch + move.slot] == move.out &&
                              !best.selected[move.batch * t.cliques + move.in];
        if (!possible) break;
        move_and_count(block, t, best, scratch, control, move);
    }
    if (made == moves && control.change < -t.tolerance) return;
    block.all([](std::int64_t, std::int64_t) {});  // all have read what is undone now
    while (made-- > 0) {
        const KickMove& move = trail[made];
        exchange(block, t, best, {move.batch, move.slot, move.in, move.out});
    }
}

// Takes over the trails of a round, the lowest first.
template <typename Block>
CLIQUESIM_HOST_DEVICE void merge_block(Block& block, const KickTables& t, const KickState& best,
                                       const KickScratch& scratch, KickControl& control,
                                       const KickMove* trails, std::int32_t capacity,
                                       KickResult* results, std::int64_t count) {
    for (;;) {
        const std::int64_t p = lowest_result(results, count);
        if (p < 0) return;
        take_over(block, t, best, scratch, control, trails + p * capacity, results[p].moves);
        block.all([&](std::int64_t thread, std::int64_t) {
            if (thread == 0) results[p].moves = 0;
        });
    }
}

}  // namespace cliquesim
