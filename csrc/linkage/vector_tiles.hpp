// Distances of vectors, or of clusters of vectors (the farthest pair), by GEMM tiles on the fly.
#pragma once

#include <Eigen/Core>
#include <memory>
#include <vector>

#include "linkage/distance_tiles.hpp"
#include "linkage/linkage.hpp"
#include "linkage/list_linkage.hpp"

namespace cliquesim {

// A distance is a function of its two rows alone, whichever tile it is computed in, so two passes
// agree bit for bit.
template <typename T>
class VectorTiles final : public DistanceTiles<T> {
  public:
    // Every vector by itself. Throws std::invalid_argument for a row without a direction.
    VectorTiles(MatrixView<const T> vectors, Metric metric, ThreadPool& pool);
    // Clusters of the items of `finer`, whose memory they take over.
    VectorTiles(VectorTiles&& finer, const Grouping& groups, ThreadPool& pool);

    UpperRows<const T> tile(std::int64_t band, std::int64_t first, std::int64_t last,
                            int worker) override;
    std::vector<T> estimate_limits(ThreadPool& pool) override;

    // Bounds of all distances, up to rounding.
    std::pair<T, T> range() const;

  private:
    using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

    struct Workspace {
        std::vector<T> distances, clusters;
    };

    struct Block {  // of rows_ by rows_
        std::int64_t row, height, col, width;
    };

    void farthest_pairs(std::int64_t band, std::int64_t first, std::int64_t last,
                        Workspace& space) const;
    void raise_to_farthest(const Block& block, std::int64_t band, std::int64_t first,
                           std::int64_t last, Workspace& space) const;
    void make_bands(const std::vector<std::int64_t>& sizes);
    void standardize(MatrixView<const T> vectors, ThreadPool& pool);
    void pairwise(const T* rows, const T* norms, std::int64_t count, std::int64_t col,
                  std::int64_t width, T* out) const;

    Metric metric_;
    std::int64_t dimensions_;
    bool singles_;          // every cluster is one vector, and a tile's distances are its own
    RowMajor rows_;         // whole bands, each padded with zeros to a multiple of 48 rows
    std::vector<T> norms_;  // squared lengths
    std::vector<std::int64_t> place_;       // of every cluster's first row in rows_
    std::vector<std::int64_t> items_;       // of every cluster
    std::vector<std::int64_t> band_place_;  // of every band's first row in rows_
    std::vector<Workspace> workspaces_;
};

}  // namespace cliquesim
