// What a search holds in memory, which products it uses, and which pairs it leaves out.
#pragma once

#include <cstdint>

#include "neighbors/exclusion.hpp"
#include "neighbors/neighbors.hpp"
#include "neighbors/similarity_tiles.hpp"

namespace cliquesim {

// Whose intervals are resolved at once.
inline constexpr std::int64_t blocks_together = 4;

struct SearchPlan {
    TilePlan tiles;
    std::int64_t memory = 0;  // bytes
};

// Throws where the search is malformed, or where memory_limit is too small for any plan.
SearchPlan plan_search(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                       int threads);

SearchPlan plan_quantiles(const NeighborSearch& search, int threads);

Exclusion exclusion_of(const NeighborSearch& search);

}  // namespace cliquesim
