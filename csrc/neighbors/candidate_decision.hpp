// Candidates that are listed by an upper bound of their score are decided by float32 products, the
// most promising first, until no bound reaches the k-th best: the work of one thread block for a
// row, as phases between which it synchronises.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"
#include "neighbors/candidate_key.hpp"
#include "neighbors/list_merge.hpp"

namespace cliquesim {

struct CandidateDecision {
    const float* rows;  // (., dimensions)
    const float* cols;
    std::int64_t row_count, dimensions;
    const std::uint64_t* candidates;  // (row_count, room), greatest bound first, 0: none
    std::int64_t room;
    CandidateLists best;  // starts empty
    float sign;
    std::int32_t* decided;  // per row: how many; negative where an unlisted one may be better
};

inline constexpr std::int32_t product_lanes_per_row = 32, decided_at_once = 32;

struct DecisionBuffer {
    float sums[decided_at_once][product_lanes_per_row + 1];
    MergeBuffer merge;
};

// Every lane's share of the products with `count` candidates, some at a time.
CLIQUESIM_HOST_DEVICE inline void lane_sums(const CandidateDecision& all, std::int64_t row,
                                            const std::uint64_t* keys, std::int32_t count,
                                            DecisionBuffer& buffer, std::int32_t thread) {
    constexpr std::int32_t together = 4, lanes = product_lanes_per_row;
    const std::int32_t lane = thread % lanes, warp = thread / lanes;
    const float* x = all.rows + row * all.dimensions;
    for (std::int32_t first = together * warp; first < count;
         first += together * (merge_threads / lanes)) {
        const float* y[together];
        float sums[together] = {};
        for (std::int32_t u = 0; u < together; ++u) {
            const std::int32_t c = first + u < count ? first + u : count - 1;
            y[u] = all.cols + static_cast<std::int64_t>(key_code(keys[c]) >> 1) * all.dimensions;
        }
        for (std::int64_t d = lane; d < all.dimensions; d += lanes)
            for (std::int32_t u = 0; u < together; ++u) sums[u] += x[d] * y[u][d];
        for (std::int32_t u = 0; u < together; ++u)
            if (first + u < count) buffer.sums[first + u][lane] = sums[u];
    }
}

CLIQUESIM_HOST_DEVICE inline void decide_candidate(const CandidateDecision& all,
                                                   const std::uint64_t* keys, std::int32_t count,
                                                   DecisionBuffer& buffer, std::int32_t thread) {
    if (thread == 0) buffer.merge.count = count;
    if (thread >= count) return;
    float sum = 0;
    for (std::int32_t lane = 0; lane < product_lanes_per_row; ++lane)
        sum += buffer.sums[thread][lane];
    buffer.merge.fresh[thread] = candidate_key(all.sign * sum, key_code(keys[thread]));
}

// `every` as for merge_fresh.
template <typename Every>
CLIQUESIM_HOST_DEVICE void decide_row(const CandidateDecision& all, std::int64_t row,
                                      DecisionBuffer& buffer, const Every& every) {
    const std::uint64_t* keys = all.candidates + row * all.room;
    std::int64_t done = 0;
    while (done < all.room && keys[done] != 0 && key_score(keys[done]) >= all.best.bounds[row]) {
        const std::int64_t left = all.room - done;
        const auto count = static_cast<std::int32_t>(
            count_greater(keys + done, left < decided_at_once ? left : decided_at_once, 0));
        every(
            [&](std::int32_t thread) { lane_sums(all, row, keys + done, count, buffer, thread); });
        every([&](std::int32_t thread) {
            decide_candidate(all, keys + done, count, buffer, thread);
        });
        merge_fresh(all.best, row, buffer.merge, every);
        done += count;
    }
    const std::uint64_t last = keys[all.room - 1];
    const bool certain = last == 0 || key_score(last) < all.best.bounds[row];
    every([&](std::int32_t thread) {
        if (thread == 0) all.decided[row] = static_cast<std::int32_t>(certain ? done : -done);
    });
}

}  // namespace cliquesim
