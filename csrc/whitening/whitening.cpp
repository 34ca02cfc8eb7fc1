#include "whitening/whitening.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim::whitening {

namespace {

constexpr std::int64_t tile_size = 256;    // columns of one task
constexpr std::int64_t sum_rows = 512;     // rows of one float32 product
constexpr std::int64_t chunk_rows = 2048;  // rows that are centred at a time
constexpr std::int64_t solve_rows = 128;

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMatrix, 0, Eigen::OuterStride<>>;

std::int64_t num_blocks(std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
}

// x - shift of one chunk, and its column sums; one task per block of columns.
class CentredChunk {
  public:
    CentredChunk(MatrixView<const float> x, std::span<const float> shift)
        : x_(x), shift_(shift), values_(static_cast<std::size_t>(chunk_rows * x.cols)) {}

    void load(std::int64_t begin, std::int64_t rows, std::span<double> sum, ThreadPool& pool) {
        pool.parallel_for(num_blocks(x_.cols, tile_size), [&](std::int64_t block, int) {
            const std::int64_t first = block * tile_size;
            const std::int64_t last = std::min(first + tile_size, x_.cols);
            std::vector<double> total(static_cast<std::size_t>(last - first));
            for (std::int64_t i = 0; i < rows; ++i) {
                const float* __restrict from = x_.row(begin + i) + first;
                const float* __restrict shift = shift_.data() + first;
                float* __restrict to = values_.data() + i * x_.cols + first;
                for (std::int64_t j = 0; j < last - first; ++j) {
                    to[j] = from[j] - shift[j];
                    total[static_cast<std::size_t>(j)] += static_cast<double>(to[j]);
                }
            }
            for (std::int64_t j = first; j < last; ++j)
                sum[static_cast<std::size_t>(j)] += total[static_cast<std::size_t>(j - first)];
        });
    }

    // Columns [first, first + cols) of rows [begin, begin + rows).
    ConstMap block(std::int64_t begin, std::int64_t rows, std::int64_t first,
                   std::int64_t cols) const {
        return {values_.data() + begin * x_.cols + first, rows, cols,
                Eigen::OuterStride<>(x_.cols)};
    }

  private:
    MatrixView<const float> x_;
    std::span<const float> shift_;
    std::vector<float> values_;
};

// Adds rows [0, rows) of the chunk to the tile of `scatter` at (row, col).
void add_tile(const CentredChunk& chunk, std::int64_t rows, std::int64_t row, std::int64_t col,
              MatrixView<double> scatter) {
    const std::int64_t height = std::min(tile_size, scatter.rows - row);
    const std::int64_t width = std::min(tile_size, scatter.rows - col);
    RowMatrix product(height, width);
    for (std::int64_t begin = 0; begin < rows; begin += sum_rows) {
        const std::int64_t count = std::min(sum_rows, rows - begin);
        product.noalias() = chunk.block(begin, count, row, height).transpose() *
                            chunk.block(begin, count, col, width);
        for (std::int64_t i = 0; i < height; ++i)
            for (std::int64_t j = 0; j < width; ++j)
                scatter(row + i, col + j) += static_cast<double>(product(i, j));
    }
}

}  // namespace

void add_moments(MatrixView<const float> x, std::span<const float> shift, std::span<double> sum,
                 MatrixView<double> scatter, const Context& context) {
    const auto dimensions = static_cast<std::size_t>(x.cols);
    require(shift.size() == dimensions && sum.size() == dimensions && scatter.rows == x.cols &&
                scatter.cols == x.cols,
            "shift, sum and scatter must have the dimension of x");
    ThreadPool pool(context);
    CentredChunk chunk(x, shift);
    const std::int64_t tiles = num_blocks(x.cols, tile_size);
    for (std::int64_t begin = 0; begin < x.rows; begin += chunk_rows) {
        const std::int64_t rows = std::min(chunk_rows, x.rows - begin);
        chunk.load(begin, rows, sum, pool);
        const auto share = [&](std::int64_t done) {
            return static_cast<double>(done) / static_cast<double>(x.rows);
        };
        pool.parallel_for(
            tiles * tiles,
            [&](std::int64_t task, int) {
                const std::int64_t i = task / tiles, j = task % tiles;
                if (j <= i) add_tile(chunk, rows, i * tile_size, j * tile_size, scatter);
            },
            1, share(begin), share(begin + rows));
    }
}

void average_over_offsets(MatrixView<const double> covariance, std::int64_t rows, std::int64_t cols,
                          std::int64_t channels, MatrixView<double> stationary,
                          const Context& context) {
    require(rows >= 1 && cols >= 1 && channels >= 1 && covariance.rows == rows * cols * channels &&
                covariance.cols == covariance.rows && stationary.rows == covariance.rows &&
                stationary.cols == covariance.rows,
            "the covariance must be square, of dimension rows x cols x channels");
    ThreadPool pool(context);
    const std::int64_t heights = 2 * rows - 1, widths = 2 * cols - 1;
    // One task per offset (dy, dx): it reads and writes the blocks of that offset only.
    pool.parallel_for(heights * widths, [&](std::int64_t task, int) {
        const std::int64_t dy = task / widths - (rows - 1), dx = task % widths - (cols - 1);
        const auto each_pair = [&](const auto& visit) {
            for (std::int64_t y = std::max<std::int64_t>(0, -dy); y < std::min(rows, rows - dy);
                 ++y)
                for (std::int64_t x = std::max<std::int64_t>(0, -dx); x < std::min(cols, cols - dx);
                     ++x)
                    visit((y * cols + x) * channels, ((y + dy) * cols + x + dx) * channels);
        };
        std::vector<double> mean(static_cast<std::size_t>(channels * channels));
        std::int64_t pairs = 0;
        each_pair([&](std::int64_t i, std::int64_t j) {
            ++pairs;
            for (std::int64_t a = 0; a < channels; ++a)
                for (std::int64_t b = 0; b < channels; ++b)
                    mean[static_cast<std::size_t>(a * channels + b)] += covariance(i + a, j + b);
        });
        for (double& value : mean) value /= static_cast<double>(pairs);
        each_pair([&](std::int64_t i, std::int64_t j) {
            for (std::int64_t a = 0; a < channels; ++a)
                std::copy_n(mean.data() + a * channels, channels, stationary.row(i + a) + j);
        });
    });
}

void whiten(MatrixView<const float> x, std::span<const float> mean, MatrixView<const float> factor,
            MatrixView<float> out, const Context& context) {
    require(mean.size() == static_cast<std::size_t>(x.cols) && factor.rows == x.cols &&
                factor.cols == x.cols && out.rows == x.rows && out.cols == x.cols,
            "mean, factor and out must have the dimension of x");
    const ConstMap lower(factor.data, factor.rows, factor.cols,
                         Eigen::OuterStride<>(factor.stride));
    ThreadPool pool(context);
    pool.parallel_for(
        num_blocks(x.rows, solve_rows),
        [&](std::int64_t block, int) {
            const std::int64_t begin = block * solve_rows;
            const std::int64_t rows = std::min(solve_rows, x.rows - begin);
            for (std::int64_t i = begin; i < begin + rows; ++i) {
                const float* __restrict from = x.row(i);
                const float* __restrict centre = mean.data();
                float* __restrict to = out.row(i);
                for (std::int64_t j = 0; j < x.cols; ++j) to[j] = from[j] - centre[j];
            }
            // Row-major rows are the columns of a column-major matrix: L Phi = H - mu in place.
            Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> columns(
                out.row(begin), x.cols, rows, Eigen::OuterStride<>(out.stride));
            lower.triangularView<Eigen::Lower>().solveInPlace(columns);
        },
        1, 0.0, 1.0);
}

}  // namespace cliquesim::whitening
