// Compact cliques of mutually similar frames, Sect. 2.2: a candidate per frame by complete linkage
// of its neighbourhood, then farthest-neighbour merging of highly overlapping ones. Nothing here is
// N x N.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

// Similarities are dot products of rows, pooled over the time axis by Eq. (9) if pool_radius > 0.
struct Descriptors {
    MatrixView<const float> rows;             // (N, D)
    std::span<const std::int64_t> sequences;  // per row; needed for pooling only
    std::int64_t pool_radius = 0;
};

// What a clique may hold. Without groups the cap does not apply.
struct CliqueRules {
    std::span<const std::int64_t> groups;  // per row, or empty
    std::int64_t per_group = 1;            // members of one group
    std::int64_t group_window = 0;         // members of one group are further apart, in rows
    std::int64_t max_size = 0;             // 0: no limit
};

// Sorted members of clique k: [offsets[k], offsets[k+1]). `intra` is the mean similarity over pairs
// i != j, negative ones counted as 0; 1 for a single frame.
struct CliqueList {
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int64_t> members;
    std::vector<double> intra;

    std::int64_t size() const { return static_cast<std::int64_t>(intra.size()); }
    std::span<const std::int64_t> operator[](std::int64_t k) const {
        const auto begin = static_cast<std::size_t>(offsets[static_cast<std::size_t>(k)]);
        const auto end = static_cast<std::size_t>(offsets[static_cast<std::size_t>(k) + 1]);
        return {members.data() + begin, end - begin};
    }
    void append(std::span<const std::int64_t> clique, double similarity) {
        members.insert(members.end(), clique.begin(), clique.end());
        offsets.push_back(static_cast<std::int64_t>(members.size()));
        intra.push_back(similarity);
    }
};

// Clique i: the cluster of frame i in the complete linkage of i and neighbors[i], cut where
// similarities fall below the threshold. Of a group's neighbours, the first ones are taken.
// neighbors: (N, k), most similar first, -1 for none. O(N k^2 D) time.
CliqueList candidate_cliques(const Descriptors& descriptors,
                             MatrixView<const std::int64_t> neighbors, const CliqueRules& rules,
                             float threshold, const Context& context);

// Those of at least min_size members, each set of members once, in order of first appearance.
CliqueList distinct_cliques(const CliqueList& cliques, std::int64_t min_size);

enum class Overlap { smaller, jaccard };  // |A n B| over min(|A|, |B|) or over |A u B|

struct MergeOptions {
    Overlap overlap = Overlap::smaller;
    double min_overlap = 0.5;
    double ratio = 0.5;               // of the constituents' mean intra-clique similarity
    std::int64_t max_edges = 128;     // overlapping cliques remembered per clique, the strongest
    std::int64_t max_posting = 2048;  // frames of more cliques than this find no overlaps by them
};

struct MergeReport {
    std::int64_t edges = 0, rounds = 0, merges = 0, vetoes = 0;
};

// Complete linkage on overlap, strongest first: rounds that join all pairs of clusters which are
// each other's strongest. A pair whose union is less similar within than `ratio` times the mean of
// the two is vetoed for good, and so is everything that would hold both. The union keeps the cap:
// of a group, the members most similar to the rest of the union stay.
CliqueList merge_cliques(const Descriptors& descriptors, const CliqueList& cliques,
                         const CliqueRules& rules, const MergeOptions& options,
                         const Context& context, MergeReport& report);

// At most `count` cliques, ascending: greedily the one with most newly covered frames times its
// intra-clique similarity.
std::vector<std::int64_t> cover_greedily(const CliqueList& cliques, std::int64_t num_frames,
                                         std::int64_t count);

// Rows of `means` (K, D): mean over a clique's members a of x_(a+shift), each divided by the square
// root of the length of a's pooling window, 0 where that window does not reach. Summed over the
// shifts -p..p, their Gram matrices are the mean pooled similarity of two cliques' frames, exactly
// where no window is cut off by the end of a sequence.
void clique_means(const Descriptors& descriptors, const CliqueList& cliques, std::int64_t shift,
                  MatrixView<double> means, const Context& context);

// Similarity of rows first[m] and second[m].
void pair_similarities(const Descriptors& descriptors, std::span<const std::int64_t> first,
                       std::span<const std::int64_t> second, std::span<float> out,
                       const Context& context);

}  // namespace cliquesim
