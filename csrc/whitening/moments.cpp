#include <algorithm>
#include <numeric>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "whitening/product.hpp"
#include "whitening/whitening.hpp"

namespace cliquesim::whitening {

namespace {

constexpr std::int64_t product_rows = 512;  // rows of one float32 product
constexpr std::int64_t chunk_rows = 2 * product_rows;
// Columns of one task: whole panels of either width.
constexpr std::int64_t common_cols = std::lcm(tile_rows, tile_cols);
constexpr std::int64_t block_cols = std::max<std::int64_t>(1, 240 / common_cols) * common_cols;

std::int64_t num_blocks(std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
}

// x - shift of one chunk of rows, packed as panels of tile_rows and of tile_cols columns.
class PackedChunk {
  public:
    PackedChunk(MatrixView<const float> x, std::span<const float> shift)
        : x_(x),
          shift_(shift),
          blocks_(num_blocks(x.cols, block_cols)),
          left_(blocks_ * block_cols * chunk_rows),
          right_(blocks_ * block_cols * chunk_rows) {}

    std::int64_t blocks() const { return blocks_; }

    void load(std::int64_t begin, std::int64_t rows, std::span<double> sum, FirstRow& broken,
              ThreadPool& pool) {
        pool.parallel_for(blocks_, [&](std::int64_t block, int) {
            const std::int64_t first = block * block_cols;
            const std::int64_t cols = std::min(block_cols, x_.cols - first);
            float centred[block_cols] = {};
            double total[block_cols] = {};
            for (std::int64_t i = 0; i < rows; ++i) {
                if (!subtract(x_.row(begin + i) + first, shift_.data() + first, cols, centred))
                    broken.report(begin + i);
                for (std::int64_t j = 0; j < block_cols; ++j)
                    total[j] += static_cast<double>(centred[j]);
                for (std::int64_t j = 0; j < block_cols; j += tile_rows)
                    std::copy_n(centred + j, tile_rows, left(first + j, i));
                for (std::int64_t j = 0; j < block_cols; j += tile_cols)
                    std::copy_n(centred + j, tile_cols, right(first + j, i));
            }
            for (std::int64_t j = 0; j < cols; ++j)
                sum[static_cast<std::size_t>(first + j)] += total[j];
        });
    }

    // Row i of the panel that starts at column `col`.
    const float* left(std::int64_t col, std::int64_t i) const {
        return left_.data() + col * chunk_rows + i * tile_rows;
    }
    const float* right(std::int64_t col, std::int64_t i) const {
        return right_.data() + col * chunk_rows + i * tile_cols;
    }

  private:
    float* left(std::int64_t col, std::int64_t i) {
        return left_.data() + col * chunk_rows + i * tile_rows;
    }
    float* right(std::int64_t col, std::int64_t i) {
        return right_.data() + col * chunk_rows + i * tile_cols;
    }

    MatrixView<const float> x_;
    std::span<const float> shift_;
    std::int64_t blocks_;
    AlignedArray<float> left_, right_;
};

void add(const Tile& tile, std::int64_t row, std::int64_t col, MatrixView<double> scatter) {
    alignas(64) float values[tile_rows * tile_cols];
    store(tile, values);
    const std::int64_t rows = std::min(tile_rows, scatter.rows - row);
    const std::int64_t cols = std::min(tile_cols, scatter.cols - col);
    for (std::int64_t i = 0; i < rows; ++i) {
        double* __restrict to = scatter.row(row + i) + col;
        const float* __restrict from = values + i * tile_cols;
        for (std::int64_t j = 0; j < cols; ++j) to[j] += static_cast<double>(from[j]);
    }
}

// Adds rows [0, rows) of the chunk to the block of `scatter` at (row, col), but for tiles that lie
// above the diagonal.
void add_block(const PackedChunk& chunk, std::int64_t rows, std::int64_t row, std::int64_t col,
               MatrixView<double> scatter) {
    const std::int64_t end_row = std::min(row + block_cols, scatter.rows);
    const std::int64_t end_col = std::min(col + block_cols, scatter.cols);
    Tile tile;
    for (std::int64_t begin = 0; begin < rows; begin += product_rows) {
        const std::int64_t depth = std::min(product_rows, rows - begin);
        for (std::int64_t j = col; j < end_col; j += tile_cols) {
            for (std::int64_t i = row; i < end_row; i += tile_rows) {
                if (i + tile_rows <= j) continue;
                prefetch(scatter, i, j);
                multiply(chunk.left(i, begin), chunk.right(j, begin), depth, tile);
                add(tile, i, j, scatter);
            }
        }
    }
}

}  // namespace

std::int64_t add_moments(MatrixView<const float> x, std::span<const float> shift,
                         std::span<double> sum, MatrixView<double> scatter,
                         const Context& context) {
    const auto dimensions = static_cast<std::size_t>(x.cols);
    require(shift.size() == dimensions && sum.size() == dimensions && scatter.rows == x.cols &&
                scatter.cols == x.cols,
            "shift, sum and scatter must have the dimension of x");
    ThreadPool pool(context);
    PackedChunk chunk(x, shift);
    FirstRow broken;
    const std::int64_t blocks = chunk.blocks();
    for (std::int64_t begin = 0; begin < x.rows; begin += chunk_rows) {
        const std::int64_t rows = std::min(chunk_rows, x.rows - begin);
        chunk.load(begin, rows, sum, broken, pool);
        if (broken.get() >= 0) break;
        const auto share = [&](std::int64_t done) {
            return static_cast<double>(done) / static_cast<double>(x.rows);
        };
        pool.parallel_for(
            blocks * blocks,
            [&](std::int64_t task, int) {
                const std::int64_t i = task / blocks, j = task % blocks;
                if (j <= i) add_block(chunk, rows, i * block_cols, j * block_cols, scatter);
            },
            1, share(begin), share(begin + rows));
    }
    return broken.get();
}

}  // namespace cliquesim::whitening
