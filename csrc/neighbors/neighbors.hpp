// Exact most and least similar rows of every row, Sect. 2.1 and Fig. 4(b): s_ij = x_i . x_j, never
// an N x N array. O(N^2 D) time, O(N (k + n_bottom)) memory beside the descriptors.
//
// Every unordered pair of rows is multiplied once: a tile serves its rows and its columns, the most
// and the least similar. With int16 products, a bound on their error says which pairs may be among
// the neighbours; these are multiplied again in float32. So the answer is the same to the last bit.
#pragma once

#include <cstdint>
#include <span>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

enum class Precision { automatic, float32, int16 };

struct NeighborSearch {
    MatrixView<const float> corpus;    // (N, D)
    MatrixView<const float> queries;   // (M, D); without data: every corpus row against the others
    MatrixView<const float> mirrored;  // (N, D) or without data: s_ij = max(x_i . x_j, x_i . m_j)
    bool correlation = false;          // rows are centred and scaled to length 1 first
    std::span<const std::int64_t> groups;        // per corpus row, or empty
    std::span<const std::int64_t> query_groups;  // per query, or empty
    // Rows of the same group are excluded; with a window >= 0 only those at most that many rows
    // apart.
    std::int64_t group_window = -1;
    // Eq. (9) over -p..p within the sequences (empty: the groups), which must be contiguous then.
    std::int64_t pool_radius = 0;
    std::span<const std::int64_t> sequences;  // per corpus row, or empty
    Precision precision = Precision::automatic;
    std::int64_t memory_limit = 0;  // bytes beside input and output; 0: none
};

// (M or N, k) and (M or N, n_bottom). Ordered by similarity (descending; ascending at the bottom),
// then by index. Where fewer rows remain: index -1, similarity -inf (bottom: +inf). Flips say which
// neighbours are mirror images; without data where there are none.
struct NeighborLists {
    MatrixView<std::int64_t> indices;
    MatrixView<float> similarities;
    MatrixView<std::int64_t> bottom_indices;
    MatrixView<float> bottom_similarities;
    MatrixView<bool> flips;
    MatrixView<bool> bottom_flips;
};

struct NeighborReport {
    bool int16 = false;
    const char* instructions = "";  // of the products
    double error_bound = 0;         // of an int16 similarity, as a share of the two rows' lengths
    std::int64_t tiles = 0, exact_tiles = 0;
    std::int64_t recomputed = 0;  // single products, in float32
    std::int64_t memory = 0;      // bytes held beside input and output
};

// Quantiles of every row's similarities to all rows that are not excluded, Fig. 4(b); NaN where
// there are none. `probabilities` ascend; out: (M or N, number of probabilities). Twice the
// products of find_neighbors, and one block of rows' similarities in memory.
void similarity_quantiles(const NeighborSearch& search, std::span<const double> probabilities,
                          MatrixView<float> out, const Context& context);

NeighborReport find_neighbors(const NeighborSearch& search, const NeighborLists& out,
                              const Context& context);

}  // namespace cliquesim
