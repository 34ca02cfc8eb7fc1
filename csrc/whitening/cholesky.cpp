#include <Eigen/Cholesky>
#include <algorithm>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "whitening/whitening.hpp"

namespace cliquesim::whitening {

namespace {

constexpr std::int64_t panel_size = 128;
constexpr std::int64_t tile_size = 256;

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Block = Eigen::Map<RowMatrix, 0, Eigen::OuterStride<>>;

Block block(MatrixView<double> a, std::int64_t row, std::int64_t col, std::int64_t rows,
            std::int64_t cols) {
    return {&a(row, col), rows, cols, Eigen::OuterStride<>(a.stride)};
}

}  // namespace

bool cholesky(MatrixView<double> a, const Context& context) {
    require(a.rows == a.cols, "a must be square");
    ThreadPool pool(context);
    for (std::int64_t begin = 0; begin < a.rows; begin += panel_size) {
        const std::int64_t width = std::min(panel_size, a.rows - begin);
        const std::int64_t below = begin + width;
        Block diagonal = block(a, begin, begin, width, width);
        const Eigen::LLT<Eigen::Ref<RowMatrix, 0, Eigen::OuterStride<>>, Eigen::Lower> factor(
            diagonal);
        if (factor.info() != Eigen::Success) return false;
        const std::int64_t tiles = (a.rows - below + tile_size - 1) / tile_size;
        const auto rows_of = [&](std::int64_t tile) {
            return std::min(tile_size, a.rows - below - tile * tile_size);
        };
        pool.parallel_for(tiles, [&](std::int64_t tile, int) {
            Block panel = block(a, below + tile * tile_size, begin, rows_of(tile), width);
            diagonal.triangularView<Eigen::Lower>().transpose().solveInPlace<Eigen::OnTheRight>(
                panel);
        });
        pool.parallel_for(tiles * tiles, [&](std::int64_t task, int) {
            const std::int64_t i = task / tiles, j = task % tiles;
            if (j > i) return;
            const std::int64_t row = below + i * tile_size, col = below + j * tile_size;
            // Tiles on the diagonal also change above it; nobody reads that.
            block(a, row, col, rows_of(i), rows_of(j)).noalias() -=
                block(a, row, begin, rows_of(i), width) *
                block(a, col, begin, rows_of(j), width).transpose();
        });
    }
    return true;
}

void invert_transposed(MatrixView<const double> factor, MatrixView<float> inverse,
                       const Context& context) {
    require(
        factor.rows == factor.cols && inverse.rows == factor.rows && inverse.cols == factor.rows,
        "factor and inverse must be square, of one size");
    ThreadPool pool(context);
    constexpr std::int64_t width = 64;
    const std::int64_t n = factor.rows;
    // Columns [begin, end) of L^-1, which are zero above `begin`, are rows of its transpose.
    pool.parallel_for((n + width - 1) / width, [&](std::int64_t task, int) {
        const std::int64_t begin = task * width, end = std::min(begin + width, n);
        const Eigen::Map<const RowMatrix, 0, Eigen::OuterStride<>> lower(
            &factor(begin, begin), n - begin, n - begin, Eigen::OuterStride<>(factor.stride));
        Eigen::MatrixXd columns = Eigen::MatrixXd::Identity(n - begin, end - begin);
        lower.triangularView<Eigen::Lower>().solveInPlace(columns);
        for (std::int64_t i = begin; i < end; ++i) {
            float* to = inverse.row(i);
            std::fill_n(to, i, 0.0F);
            for (std::int64_t j = i; j < n; ++j)
                to[j] = static_cast<float>(columns(j - begin, i - begin));
        }
    });
}

}  // namespace cliquesim::whitening
