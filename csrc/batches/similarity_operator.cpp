#include "batches/similarity_operator.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim {

SimilarityOperator::SimilarityOperator(MatrixView<const double> similarity, double scale,
                                       std::int64_t max_rank, ThreadPool& pool) {
    if (max_rank > 0) factorize(similarity, scale, max_rank, pool);
    if (low_rank_) return;
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    dense_ = scale * Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>(
                         similarity.data, similarity.rows, similarity.cols,
                         Eigen::OuterStride<>(similarity.stride));
}

// Cholesky with the largest diagonal entry as the pivot, until nothing is left or max_rank columns
// are made.
void SimilarityOperator::factorize(MatrixView<const double> similarity, double scale,
                                   std::int64_t max_rank, ThreadPool& pool) {
    const Eigen::Index n = similarity.rows;
    const Eigen::Index limit = std::min<Eigen::Index>(n, max_rank);
    remainder_.resize(n);
    for (Eigen::Index k = 0; k < n; ++k) remainder_[k] = scale * similarity(k, k);
    const double enough = 1e-12 * std::max(remainder_.maxCoeff(), 0.0);
    // Row k holds clique k's entries, so that a column costs contiguous dot products.
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(n, limit);
    Eigen::Index rank = 0;
    constexpr Eigen::Index chunk = 512;
    for (; rank < limit; ++rank) {
        Eigen::Index pivot = 0;
        const double largest = remainder_.maxCoeff(&pivot);
        if (!(largest > enough)) break;
        const double root = std::sqrt(largest);
        const Eigen::RowVectorXd chosen = rows.row(pivot).head(rank);
        pool.parallel_for((n + chunk - 1) / chunk, [&](std::int64_t c, int) {
            for (Eigen::Index k = c * chunk; k < std::min(n, (c + 1) * chunk); ++k) {
                const double value =
                    (scale * similarity(k, pivot) - rows.row(k).head(rank).dot(chosen)) / root;
                rows(k, rank) = value;
                remainder_[k] = std::max(0.0, remainder_[k] - value * value);
            }
        });
        remainder_[pivot] = 0;
    }
    factor_ = rows.leftCols(rank);
    low_rank_ = remainder_.maxCoeff() <= enough;
}

void SimilarityOperator::multiply_twice(const Eigen::Ref<const Eigen::MatrixXd>& X,
                                        Eigen::Ref<Eigen::MatrixXd> out) const {
    if (low_rank_) {
        const Eigen::MatrixXd inner = 2.0 * (factor_.transpose() * X);
        out.noalias() = factor_ * inner;
    } else {
        out.noalias() = 2.0 * dense_ * X;
    }
}

}  // namespace cliquesim
