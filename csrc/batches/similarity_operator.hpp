// Products with S', through a low-rank factor where S' has one.
#pragma once

#include <Eigen/Dense>
#include <cstdint>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

// S' is a Gram matrix of mean descriptors, so its rank is at most their dimension. A factor of rank
// R turns a product from K^2 into 2 K R multiplications, and is what the iterative Newton system is
// preconditioned with.
class SimilarityOperator {
  public:
    // Stands for scale * similarity. `max_rank` = 0: no factor is sought. O(K max_rank^2).
    SimilarityOperator(MatrixView<const double> similarity, double scale, std::int64_t max_rank,
                       ThreadPool& pool);

    // S' = factor factor^T exactly (to rounding), or only the leading part of it.
    bool is_low_rank() const { return low_rank_; }
    const Eigen::MatrixXd& factor() const { return factor_; }        // (K, R)
    const Eigen::VectorXd& remainder() const { return remainder_; }  // diagonal of the rest

    // out = 2 S' X for a few columns, on the calling thread.
    void multiply_twice(const Eigen::Ref<const Eigen::MatrixXd>& X,
                        Eigen::Ref<Eigen::MatrixXd> out) const;

    // scale * similarity; not there for a low rank.
    const Eigen::MatrixXd& dense() const { return dense_; }

  private:
    void factorize(MatrixView<const double> similarity, double scale, std::int64_t max_rank,
                   ThreadPool& pool);

    bool low_rank_ = false;
    Eigen::MatrixXd factor_, dense_;
    Eigen::VectorXd remainder_;
};

}  // namespace cliquesim
