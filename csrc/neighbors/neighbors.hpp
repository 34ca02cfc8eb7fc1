// Exact most and least similar rows of every row, Sect. 2.1 and Fig. 4(b): s_ij = x_i . x_j, never
// an N x N array. O(N^2 D) time, O(N (k + n_bottom)) memory beside the descriptors.
#pragma once

#include <cstdint>
#include <span>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

struct NeighborSearch {
    MatrixView<const float> corpus;   // (N, D)
    MatrixView<const float> queries;  // (M, D); without data: every corpus row against the others
    bool correlation = false;         // rows are centred and scaled to length 1 first
    std::span<const std::int64_t> groups;        // per corpus row, or empty
    std::span<const std::int64_t> query_groups;  // per query, or empty
    // Rows of the same group are excluded; with a window >= 0 only those at most that many rows
    // apart.
    std::int64_t group_window = -1;
    // Eq. (9) over -p..p within the sequences (empty: the groups), which must be contiguous then.
    std::int64_t pool_radius = 0;
    std::span<const std::int64_t> sequences;  // per corpus row, or empty
};

// (M or N, k) and (M or N, n_bottom). Ordered by similarity (descending; ascending at the bottom),
// then by index. Where fewer rows remain: index -1, similarity -inf (bottom: +inf).
struct NeighborLists {
    MatrixView<std::int64_t> indices;
    MatrixView<float> similarities;
    MatrixView<std::int64_t> bottom_indices;
    MatrixView<float> bottom_similarities;
};

void find_neighbors(const NeighborSearch& search, const NeighborLists& out, const Context& context);

}  // namespace cliquesim
