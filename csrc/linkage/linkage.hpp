// Exact complete linkage (farthest neighbour): of stored distances, of vectors, of sparse graphs.
//
// A pass over all distances finds every item's nearest ones, and merging goes on from these lists
// as far as they prove it (list_linkage.hpp). Then the distances of the clusters so far are taken
// from those of the items (contraction.hpp), a small fraction of them, and so on. Two passes over
// the input is nearly all that it costs. What lists cannot reduce is left to rounds of reciprocal
// nearest neighbours on a resident square (resident.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/context.hpp"
#include "common/matrix.hpp"
#include "linkage/upper_rows.hpp"

namespace cliquesim {

// Two clusters, each named by one of its leaves, and the distance at which they merge.
struct Merge {
    std::int64_t leaf_a;
    std::int64_t leaf_b;
    double height;
};

// SciPy's (n-1, 4) matrix: merges sorted by height, clusters numbered as they appear. Children come
// before their parents in `merges`.
void label_dendrogram(std::vector<Merge> merges, MatrixView<double> dendrogram);

enum class Metric { euclidean, sqeuclidean, cosine, correlation, dot };

// What is kept of the distances of vectors.
enum class Storage {
    none,        // nothing: computed twice
    triangle16,  // half of the square, rounded to 65,536 steps: exact for the rounded distances
    triangle,    // half of the square
    square,      // the square, and reciprocal-neighbour rounds on it alone
};

struct LinkageTuning {
    // Items that a list holds, up to twice as many. Measured on clustered and Gaussian data of
    // 20,000 items: half as many leave a tenth more clusters, twice as many a tenth fewer; both
    // cost what they save.
    std::int64_t listed = 32;
    std::int64_t few = 1024;  // go onto a square at once, on one thread: it costs milliseconds
};

struct LinkageReport {
    std::vector<std::int64_t> levels;  // items, then clusters after every pass
    double step = 0;                   // of the rounded distances; 0 if they are not
};

// `limit`: bytes that may be taken beside the input; std::invalid_argument where that is not
// enough. `negate`: y holds similarities, and heights are negated similarities. Only what is above
// the diagonal is read. Throws BadDistance.
template <typename T>
LinkageReport linkage_of_distances(UpperRows<const T> distances, bool negate, std::int64_t limit,
                                   MatrixView<double> dendrogram, const Context& context,
                                   const LinkageTuning& tuning = {});

// Destroys the distances; no memory beyond O(n).
template <typename T>
LinkageReport linkage_overwriting(UpperRows<T> distances, bool negate,
                                  MatrixView<double> dendrogram, const Context& context,
                                  const LinkageTuning& tuning = {});

// `limit`: bytes that the distances of clusters may take beside the storage; more passes are made
// where they would take more.
template <typename T>
LinkageReport linkage_of_vectors(MatrixView<const T> vectors, Metric metric, Storage storage,
                                 std::int64_t limit, MatrixView<double> dendrogram,
                                 const Context& context, const LinkageTuning& tuning = {});

// A graph as a CSR matrix: an entry (i, j) or (j, i) is the distance of i and j (of both, the
// larger), and no entry means never. The dendrogram is whole: what no edge joins is joined at
// infinity.
template <typename T>
LinkageReport linkage_of_graph(std::span<const std::int64_t> offsets,
                               std::span<const std::int64_t> columns, std::span<const T> distances,
                               bool negate, MatrixView<double> dendrogram, const Context& context,
                               const LinkageTuning& tuning = {});

}  // namespace cliquesim
