// Complete linkage on a resident square matrix: rounds of reciprocal nearest neighbours.
#pragma once

#include <vector>

#include "common/thread_pool.hpp"
#include "linkage/linkage.hpp"

namespace cliquesim {

// `distances` is symmetric with an ignored diagonal, holds no NaN, and is destroyed. O(n^2) time in
// the worst case up to a constant, no memory beyond O(n). Equal distances: the smallest index wins.
// Merges come in the order in which they were found, children before parents.
template <typename T>
std::vector<Merge> complete_linkage(MatrixView<T> distances, ThreadPool& pool,
                                    double progress_from = 0);

// Copies what is above the diagonal below it.
template <typename T>
void mirror_upper(MatrixView<T> square, ThreadPool& pool);

}  // namespace cliquesim
