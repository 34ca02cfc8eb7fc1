// Which cliques overlap, and how much: the sparse product C C^T, thresholded row by row.
#pragma once

#include <cstdint>
#include <vector>

#include "cliques/cliques.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

struct OverlapEdge {
    std::int32_t clique;
    float overlap;
};

// Symmetric; each row ascending in `clique`. An edge is kept if it is among the max_edges strongest
// of both its cliques.
using OverlapGraph = std::vector<std::vector<OverlapEdge>>;

OverlapGraph overlap_graph(const CliqueList& cliques, std::int64_t num_frames,
                           const MergeOptions& options, ThreadPool& pool);

}  // namespace cliquesim
