// The nearest-neighbour chain on distances above the diagonal, in place: slower than the resident
// square (a column costs a cache miss an entry), but with no memory beyond O(n).
#pragma once

#include <vector>

#include "common/thread_pool.hpp"
#include "linkage/linkage.hpp"
#include "linkage/upper_rows.hpp"

namespace cliquesim {

// Destroys the distances. Merges name leaves by row.
template <typename V>
std::vector<Merge> chain_linkage(const UpperRows<V>& rows, ThreadPool& pool);

}  // namespace cliquesim
