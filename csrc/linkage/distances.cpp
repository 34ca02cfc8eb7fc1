#include "linkage/distances.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "common/errors.hpp"

namespace cliquesim {

namespace {

constexpr std::int64_t tile = 256;

template <typename T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Below this share of |a|^2 + |b|^2 the squared distance has lost too many digits.
template <typename T>
constexpr T cancellation = sizeof(T) == 4 ? T(1) / 32 : T(1) / 65536;

// Calls body(row_tile, column_tile, worker) for every pair of tiles on or above the diagonal.
template <typename Body>
void for_each_tile(std::int64_t n, ThreadPool& pool, double progress_to, const Body& body) {
    const std::int64_t tiles = (n + tile - 1) / tile;
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
    pairs.reserve(static_cast<std::size_t>(tiles * (tiles + 1) / 2));
    for (std::int64_t i = 0; i < tiles; ++i)
        for (std::int64_t j = i; j < tiles; ++j)
            pairs.emplace_back(static_cast<std::int32_t>(i), static_cast<std::int32_t>(j));
    pool.parallel_for(
        static_cast<std::int64_t>(pairs.size()),
        [&](std::int64_t index, int worker) {
            const auto [i, j] = pairs[static_cast<std::size_t>(index)];
            body(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j), worker);
        },
        1, 0.0, progress_to);
}

// Vectors in the form in which the metric is a (squared) euclidean distance: columns centred (which
// changes no distance and keeps the cancellation small), or rows scaled to unit length.
template <typename T>
struct Prepared {
    RowMajor<T> rows;
    std::vector<T> norms;  // squared
};

template <typename T>
void normalize_rows(RowMajor<T>& rows, bool center, ThreadPool& pool) {
    pool.parallel_for(
        rows.rows(),
        [&](std::int64_t i, int) {
            Eigen::VectorXd row = rows.row(i).transpose().template cast<double>();
            const double before = row.norm();
            if (center) row.array() -= row.mean();
            const double norm = row.norm();
            require(norm > 1e-12 * before && norm > 0, "row " + std::to_string(i) +
                                                           (center ? " is constant" : " is zero") +
                                                           ", so that its distance is not defined");
            rows.row(i) = (row / norm).transpose().template cast<T>();
        },
        64);
}

template <typename T>
Prepared<T> prepare(MatrixView<const T> vectors, Metric metric, ThreadPool& pool) {
    Prepared<T> result;
    result.rows = Eigen::Map<const RowMajor<T>, 0, Eigen::OuterStride<>>(
        vectors.data, vectors.rows, vectors.cols, Eigen::OuterStride<>(vectors.stride));
    auto& rows = result.rows;
    if (metric == Metric::cosine || metric == Metric::correlation) {
        normalize_rows(rows, metric == Metric::correlation, pool);
    } else {
        Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(rows.cols());
        for (Eigen::Index i = 0; i < rows.rows(); ++i) mean += rows.row(i).template cast<double>();
        mean /= static_cast<double>(rows.rows());
        const Eigen::Matrix<T, 1, Eigen::Dynamic> shift = mean.template cast<T>();
        rows.rowwise() -= shift;
    }
    result.norms.resize(static_cast<std::size_t>(rows.rows()));
    for (Eigen::Index i = 0; i < rows.rows(); ++i)
        result.norms[static_cast<std::size_t>(i)] =
            static_cast<T>(rows.row(i).template cast<double>().squaredNorm());
    return result;
}

template <typename T>
T finish(T squared, Metric metric) {
    if (metric == Metric::sqeuclidean) return squared;
    // For unit vectors 1 - a.b = |a - b|^2 / 2.
    return metric == Metric::euclidean ? std::sqrt(squared) : squared / 2;
}

}  // namespace

template <typename T>
void expand_condensed(std::span<const T> condensed, MatrixView<T> square, ThreadPool& pool) {
    const std::int64_t n = square.rows;
    for_each_tile(n, pool, 0.3, [&](std::int64_t ti, std::int64_t tj, int) {
        const std::int64_t row_end = std::min(n, (ti + 1) * tile);
        const std::int64_t column_end = std::min(n, (tj + 1) * tile);
        for (std::int64_t i = ti * tile; i < row_end; ++i) {
            const T* source = condensed.data() + (i * (2 * n - i - 1)) / 2 - i - 1;
            for (std::int64_t j = std::max(i + 1, tj * tile); j < column_end; ++j)
                square(i, j) = source[j];
        }
        for (std::int64_t j = tj * tile; j < column_end; ++j)
            for (std::int64_t i = ti * tile; i < std::min(row_end, j); ++i)
                square(j, i) = square(i, j);
    });
}

template <typename T>
void pairwise_distances(MatrixView<const T> vectors, Metric metric, MatrixView<T> square,
                        ThreadPool& pool) {
    const Prepared<T> prepared = prepare(vectors, metric, pool);
    const auto& rows = prepared.rows;
    const auto& norms = prepared.norms;
    const std::int64_t n = vectors.rows;
    std::vector<RowMajor<T>> products(static_cast<std::size_t>(pool.size()));
    for_each_tile(n, pool, 0.5, [&](std::int64_t ti, std::int64_t tj, int worker) {
        const std::int64_t i0 = ti * tile, j0 = tj * tile;
        const std::int64_t height = std::min(tile, n - i0), width = std::min(tile, n - j0);
        auto& product = products[static_cast<std::size_t>(worker)];
        product.noalias() = rows.middleRows(i0, height) * rows.middleRows(j0, width).transpose();
        for (std::int64_t i = i0; i < i0 + height; ++i) {
            for (std::int64_t j = std::max(i + 1, j0); j < j0 + width; ++j) {
                const T sum =
                    norms[static_cast<std::size_t>(i)] + norms[static_cast<std::size_t>(j)];
                T squared = sum - 2 * product(i - i0, j - j0);
                if (squared < cancellation<T> * sum)
                    squared = (rows.row(i) - rows.row(j)).squaredNorm();
                square(i, j) = finish(squared, metric);
            }
        }
        for (std::int64_t j = j0; j < j0 + width; ++j)
            for (std::int64_t i = i0; i < std::min(i0 + height, j); ++i)
                square(j, i) = square(i, j);
    });
}

namespace {

template <typename T>
void link(std::int64_t n, MatrixView<double> dendrogram, const Context& context, auto&& fill) {
    require(dendrogram.rows == n - 1 && dendrogram.cols == 4, "dendrogram must be (n-1, 4)");
    if (n < 2) return;
    const auto memory = std::make_unique_for_overwrite<T[]>(static_cast<std::size_t>(n * n));
    const MatrixView<T> square(memory.get(), n, n);
    {
        ThreadPool pool(context);
        fill(square, pool);
    }
    label_dendrogram(complete_linkage(square, context), dendrogram);
}

}  // namespace

template <typename T>
void linkage_of_condensed(std::span<const T> condensed, MatrixView<double> dendrogram,
                          const Context& context) {
    const std::int64_t n = dendrogram.rows + 1;
    require(static_cast<std::int64_t>(condensed.size()) == n * (n - 1) / 2,
            "condensed must have n (n-1) / 2 entries");
    link<T>(n, dendrogram, context, [&](MatrixView<T> square, ThreadPool& pool) {
        expand_condensed(condensed, square, pool);
    });
}

template <typename T>
void linkage_of_vectors(MatrixView<const T> vectors, Metric metric, MatrixView<double> dendrogram,
                        const Context& context) {
    link<T>(vectors.rows, dendrogram, context, [&](MatrixView<T> square, ThreadPool& pool) {
        pairwise_distances(vectors, metric, square, pool);
    });
}

#define CLIQUESIM_INSTANTIATE(T)                                                                \
    template void expand_condensed(std::span<const T>, MatrixView<T>, ThreadPool&);             \
    template void pairwise_distances(MatrixView<const T>, Metric, MatrixView<T>, ThreadPool&);  \
    template void linkage_of_condensed(std::span<const T>, MatrixView<double>, const Context&); \
    template void linkage_of_vectors(MatrixView<const T>, Metric, MatrixView<double>,           \
                                     const Context&);
CLIQUESIM_INSTANTIATE(float)
CLIQUESIM_INSTANTIATE(double)
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim
