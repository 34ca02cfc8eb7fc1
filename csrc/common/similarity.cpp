#include "common/similarity.hpp"

#include <Eigen/Core>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>

#include "common/errors.hpp"

namespace cliquesim {

namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor, Eigen::Unaligned, Eigen::OuterStride<>>;

ConstMap as_eigen(MatrixView<const float> view) {
    return {view.data, view.rows, view.cols, Eigen::OuterStride<>(view.stride)};
}

Eigen::Map<const Eigen::ArrayXf> as_eigen(std::span<const float> row) {
    return {row.data(), static_cast<Eigen::Index>(row.size())};
}

}  // namespace

void similarity_tile(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> out) {
    Eigen::Map<RowMajor, Eigen::Unaligned, Eigen::OuterStride<>> product(
        out.data, a.rows, b.rows, Eigen::OuterStride<>(out.stride));
    product.noalias() = as_eigen(a) * as_eigen(b).transpose();
}

void standardize_row(std::span<const float> row, std::span<float> out) {
    const auto values = as_eigen(row).cast<double>();
    const double mean = values.mean();
    const double length = std::sqrt((values - mean).square().sum());
    const double scale = length > 0 ? 1 / length : 0;
    Eigen::Map<Eigen::ArrayXf>(out.data(), static_cast<Eigen::Index>(out.size())) =
        ((values - mean) * scale).cast<float>();
}

void require_finite_products(MatrixView<const float> rows, const char* name, ThreadPool& pool) {
    std::atomic<std::int64_t> first{rows.rows};
    pool.parallel_for(
        rows.rows,
        [&](std::int64_t i, int) {
            const double squared = as_eigen(rows.row_span(i)).cast<double>().square().sum();
            if (squared < static_cast<double>(std::numeric_limits<float>::max())) return;
            std::int64_t seen = first.load();
            while (i < seen && !first.compare_exchange_weak(seen, i)) {
            }
        },
        256);
    require(first == rows.rows, std::string(name) + " has too large values in row " +
                                    std::to_string(first) +
                                    ": its squared length overflows float32");
}

}  // namespace cliquesim
