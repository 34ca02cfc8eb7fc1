#include "batches/similarity_operator.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

namespace cliquesim {

SimilarityOperator::SimilarityOperator(MatrixView<const double> similarity, double scale,
                                       std::int64_t max_rank, ThreadPool& pool)
    : cliques_(similarity.rows) {
    if (max_rank > 0) factorize(similarity, scale, max_rank, pool);
    if (low_rank_) return;
    dense_.resize(cliques_ * cliques_);
    for (std::int64_t i = 0; i < cliques_; ++i)
        for (std::int64_t j = 0; j < cliques_; ++j)
            dense_[j * cliques_ + i] = scale * similarity(i, j);
}

// Cholesky with the largest diagonal entry as the pivot, until nothing is left or max_rank columns
// are made.
void SimilarityOperator::factorize(MatrixView<const double> similarity, double scale,
                                   std::int64_t max_rank, ThreadPool& pool) {
    const std::int64_t limit = std::min(cliques_, max_rank);
    remainder_.resize(cliques_);
    for (std::int64_t k = 0; k < cliques_; ++k) remainder_[k] = scale * similarity(k, k);
    const double enough =
        1e-12 * std::max(*std::max_element(remainder_.begin(), remainder_.end()), 0.0);
    // A row holds one clique's entries, so that a column costs contiguous dot products.
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(cliques_, limit);
    constexpr std::int64_t chunk = 512;
    for (; rank_ < limit; ++rank_) {
        const auto largest = std::max_element(remainder_.begin(), remainder_.end());
        const std::int64_t pivot = largest - remainder_.begin();
        if (!(*largest > enough)) break;
        const double root = std::sqrt(*largest);
        const Eigen::RowVectorXd chosen = rows.row(pivot).head(rank_);
        pool.parallel_for((cliques_ + chunk - 1) / chunk, [&](std::int64_t c, int) {
            for (std::int64_t k = c * chunk; k < std::min(cliques_, (c + 1) * chunk); ++k) {
                const double value =
                    (scale * similarity(k, pivot) - rows.row(k).head(rank_).dot(chosen)) / root;
                rows(k, rank_) = value;
                remainder_[k] = std::max(0.0, remainder_[k] - value * value);
            }
        });
        remainder_[pivot] = 0;
    }
    low_rank_ = *std::max_element(remainder_.begin(), remainder_.end()) <= enough;
    factor_transposed_.resize(padded_rank() * cliques_);
    factor_.resize(cliques_ * padded_rank());
    for (std::int64_t k = 0; k < cliques_; ++k)
        for (std::int64_t r = 0; r < rank_; ++r)
            factor_[r * cliques_ + k] = factor_transposed_[k * padded_rank() + r] = rows(k, r);
}

ConstColumns SimilarityOperator::factor_transposed() const {
    return {factor_transposed_.data(), padded_rank(), cliques_, padded_rank()};
}

ConstColumns SimilarityOperator::factor() const {
    return {factor_.data(), cliques_, padded_rank(), cliques_};
}

SimilarityOperator::Workspace SimilarityOperator::workspace() const {
    return {PackBuffers(), AlignedVector(padded_rank() * max_columns)};
}

void SimilarityOperator::multiply_twice(ConstColumns X, Columns out, Workspace& workspace) const {
    for (std::int64_t j = 0; j < out.cols; ++j) std::fill_n(out.col(j), out.rows, 0.0);
    if (!low_rank_) {
        add_product(2, dense(), plain(X), out, workspace.buffers);
        return;
    }
    const Columns inner{workspace.inner.data(), padded_rank(), X.cols, padded_rank()};
    std::fill_n(inner.data, inner.rows * inner.cols, 0.0);
    add_product(2, factor_transposed(), plain(X), inner, workspace.buffers);
    add_product(1, factor(), plain(inner), out, workspace.buffers);
}

}  // namespace cliquesim
