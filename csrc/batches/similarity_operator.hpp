// Products with S', through a low-rank factor where S' has one.
#pragma once

#include <cstdint>

#include "batches/dense_kernels.hpp"
#include "common/matrix.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

// S' is a Gram matrix of mean descriptors, so its rank is at most their dimension. A factor of rank
// R turns a product from K^2 into 2 K R multiplications, and its leading columns are what the
// iterative Newton system is preconditioned with.
class SimilarityOperator {
  public:
    static constexpr std::int64_t max_columns = 16;  // of one product

    // Memory of one thread for products.
    struct Workspace {
        PackBuffers buffers;
        AlignedVector inner;
    };

    // Stands for scale * similarity. A factor costs O(K max_rank^2).
    SimilarityOperator(MatrixView<const double> similarity, double scale, bool with_factor,
                       ThreadPool& pool);

    // S' = V V^T exactly (to rounding), or only the leading part of it.
    bool is_low_rank() const { return low_rank_; }
    std::int64_t rank() const { return rank_; }
    // V^T with rows of zeros up to a multiple of dense_multiple, and V with such columns.
    ConstColumns factor_transposed() const;
    ConstColumns factor() const;
    // Diagonal of what the first columns of V leave of S'.
    AlignedVector remainder(std::int64_t columns) const;

    Workspace workspace() const;
    // out = 2 S' X for at most max_columns columns, on the calling thread.
    void multiply_twice(ConstColumns X, Columns out, Workspace& workspace) const;

    // scale * similarity; not there beside a factor.
    ConstColumns dense() const { return {dense_.data(), cliques_, cliques_, cliques_}; }

  private:
    void factorize(MatrixView<const double> similarity, double scale, ThreadPool& pool);
    std::int64_t padded_rank() const { return round_up_to_dense(rank_); }

    bool low_rank_ = false;
    std::int64_t cliques_, rank_ = 0;
    AlignedVector factor_transposed_, factor_, dense_, diagonal_;
    PackedLeft packed_, packed_transposed_;  // V and V^T, or S'
};

}  // namespace cliquesim
