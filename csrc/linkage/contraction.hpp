// The distances of clusters, from those of their items: maxima over all pairs, in one pass.
#pragma once

#include "common/thread_pool.hpp"
#include "linkage/list_linkage.hpp"
#include "linkage/upper_rows.hpp"

namespace cliquesim {

// Reads every distance once and writes those of all pairs of clusters into `clusters`, which may be
// condensed rows that begin where `items` does: no distance is overwritten before it was read.
template <typename S>
void contract(const UpperRows<const S>& items, const Grouping& groups,
              const UpperRows<ValueOf<S>>& clusters, ThreadPool& pool);

}  // namespace cliquesim
