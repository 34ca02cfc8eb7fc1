// Exact complete linkage (farthest neighbour) on a resident square distance matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

// Two clusters, each named by one of its leaves, and the distance at which they merge.
struct Merge {
    std::int64_t leaf_a;
    std::int64_t leaf_b;
    double height;
};

// `distances` is symmetric with an ignored diagonal, holds no NaN, and is destroyed. O(n^2) time in
// the worst case up to a constant, no memory beyond O(n). Equal distances: the smallest index wins.
// Merges come in the order in which they were found, children before parents.
template <typename T>
std::vector<Merge> complete_linkage(MatrixView<T> distances, const Context& context);

// SciPy's (n-1, 4) matrix: merges sorted by height, clusters numbered as they appear.
void label_dendrogram(std::vector<Merge> merges, MatrixView<double> dendrogram);

// Whole runs: the square matrix is made, used and freed inside.
template <typename T>
void linkage_of_condensed(std::span<const T> condensed, MatrixView<double> dendrogram,
                          const Context& context);

enum class Metric { euclidean, sqeuclidean, cosine, correlation };

template <typename T>
void linkage_of_vectors(MatrixView<const T> vectors, Metric metric, MatrixView<double> dendrogram,
                        const Context& context);

}  // namespace cliquesim
