// The square matrix that complete linkage runs on, from condensed distances or from vectors.
#pragma once

#include <span>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"
#include "linkage/linkage.hpp"

namespace cliquesim {

// SciPy's condensed order: (0,1), (0,2), ..., (1,2), ...
template <typename T>
void expand_condensed(std::span<const T> condensed, MatrixView<T> square, ThreadPool& pool);

// Distances of all pairs of rows by GEMM tiles, |a - b|^2 = |a|^2 + |b|^2 - 2 a.b. A pair for which
// that difference would cancel is computed directly, so duplicates are exactly 0 apart.
template <typename T>
void pairwise_distances(MatrixView<const T> vectors, Metric metric, MatrixView<T> square,
                        ThreadPool& pool);

}  // namespace cliquesim
