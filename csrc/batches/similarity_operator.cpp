#include "batches/similarity_operator.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

// Descriptors have a few hundred dimensions; above half of K a product with S' itself costs less.
constexpr std::int64_t max_rank = 768;
// What is kept of a factor that is not all of S'.
constexpr std::int64_t max_leading = 64;

}  // namespace

SimilarityOperator::SimilarityOperator(MatrixView<const double> similarity, double scale,
                                       bool with_factor, ThreadPool& pool)
    : cliques_(similarity.rows), diagonal_(similarity.rows) {
    for (std::int64_t k = 0; k < cliques_; ++k) diagonal_[k] = scale * similarity(k, k);
    if (with_factor) factorize(similarity, scale, pool);
    if (low_rank_) return;
    dense_.resize(cliques_ * cliques_);
    for (std::int64_t i = 0; i < cliques_; ++i)
        for (std::int64_t j = 0; j < cliques_; ++j)
            dense_[j * cliques_ + i] = scale * similarity(i, j);
    packed_ = PackedLeft(dense());
    if (with_factor) dense_ = {};
}

// Cholesky with the largest diagonal entry as the pivot, until nothing is left or too many columns
// are made.
void SimilarityOperator::factorize(MatrixView<const double> similarity, double scale,
                                   ThreadPool& pool) {
    const std::int64_t limit = std::min(std::max(cliques_ / 2, max_leading), max_rank);
    AlignedVector rest = diagonal_;
    const auto largest = [&] { return std::max_element(rest.begin(), rest.end()); };
    const double enough = 1e-12 * std::max(*largest(), 0.0);
    // A row holds one clique's entries, so that a column costs contiguous dot products.
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(cliques_, limit);
    constexpr std::int64_t chunk = 512;
    for (; rank_ < std::min(limit, cliques_); ++rank_) {
        const std::int64_t pivot = largest() - rest.begin();
        if (!(rest[pivot] > enough)) break;
        const double root = std::sqrt(rest[pivot]);
        const Eigen::RowVectorXd chosen = rows.row(pivot).head(rank_);
        pool.parallel_for((cliques_ + chunk - 1) / chunk, [&](std::int64_t c, int) {
            for (std::int64_t k = c * chunk; k < std::min(cliques_, (c + 1) * chunk); ++k) {
                const double value =
                    (scale * similarity(k, pivot) - rows.row(k).head(rank_).dot(chosen)) / root;
                rows(k, rank_) = value;
                rest[k] = std::max(0.0, rest[k] - value * value);
            }
        });
        rest[pivot] = 0;
    }
    low_rank_ = *largest() <= enough;
    if (!low_rank_) rank_ = std::min(rank_, max_leading);
    factor_transposed_.resize(padded_rank() * cliques_);
    factor_.resize(cliques_ * padded_rank());
    for (std::int64_t k = 0; k < cliques_; ++k)
        for (std::int64_t r = 0; r < rank_; ++r)
            factor_[r * cliques_ + k] = factor_transposed_[k * padded_rank() + r] = rows(k, r);
    if (!low_rank_) return;
    packed_ = PackedLeft(factor());
    packed_transposed_ = PackedLeft(factor_transposed());
}

AlignedVector SimilarityOperator::remainder(std::int64_t columns) const {
    AlignedVector rest = diagonal_;
    for (std::int64_t k = 0; k < cliques_; ++k) {
        for (std::int64_t r = 0; r < std::min(columns, rank_); ++r)
            rest[k] -= factor_[r * cliques_ + k] * factor_[r * cliques_ + k];
        rest[k] = std::max(rest[k], 0.0);
    }
    return rest;
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
        add_product(2, packed_, plain(X), out, workspace.buffers);
        return;
    }
    const Columns inner{workspace.inner.data(), padded_rank(), X.cols, padded_rank()};
    std::fill_n(inner.data, inner.rows * inner.cols, 0.0);
    add_product(2, packed_transposed_, plain(X), inner, workspace.buffers);
    add_product(1, packed_, plain(inner), out, workspace.buffers);
}

}  // namespace cliquesim
