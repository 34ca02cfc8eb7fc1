#include <algorithm>
#include <memory>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "whitening/product.hpp"
#include "whitening/whitening.hpp"

namespace cliquesim::whitening {

namespace {

constexpr std::int64_t product_depth = 512;            // dimensions of one product
constexpr std::int64_t task_panels = 112 / tile_rows;  // panels of rows of one task
constexpr std::int64_t task_rows = task_panels * tile_rows;

std::int64_t num_blocks(std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
}

// P as panels of columns, and how many rows of each are needed.
class PackedProjection {
  public:
    PackedProjection(MatrixView<const float> projection, ThreadPool& pool)
        : rows_(projection.rows),
          panels_(num_blocks(projection.cols, tile_cols)),
          depth_(static_cast<std::size_t>(panels_), 1),
          values_(panels_ * rows_ * tile_cols) {
        pool.parallel_for(panels_, [&](std::int64_t panel, int) {
            const std::int64_t first = panel * tile_cols;
            const std::int64_t cols = std::min(tile_cols, projection.cols - first);
            float* to = values_.data() + panel * rows_ * tile_cols;
            for (std::int64_t k = 0; k < rows_; ++k, to += tile_cols) {
                const float* from = projection.row(k) + first;
                std::copy_n(from, cols, to);
                if (std::any_of(from, from + cols, [](float value) { return value != 0; }))
                    depth_[static_cast<std::size_t>(panel)] = k + 1;
            }
        });
    }

    std::int64_t panels() const { return panels_; }
    std::int64_t depth(std::int64_t panel) const { return depth_[static_cast<std::size_t>(panel)]; }
    const float* row(std::int64_t panel, std::int64_t k) const {
        return values_.data() + (panel * rows_ + k) * tile_cols;
    }

  private:
    std::int64_t rows_, panels_;
    std::vector<std::int64_t> depth_;
    AlignedArray<float> values_;
};

// One worker's rows, centred and packed.
class PackedRows {
  public:
    explicit PackedRows(std::int64_t dimensions)
        : dimensions_(dimensions), values_(task_rows * dimensions) {}

    void load(MatrixView<const float> x, std::span<const float> mean, std::int64_t begin,
              std::int64_t rows, FirstRow& broken) {
        for (std::int64_t first = 0; first < rows; first += tile_rows)
            for (std::int64_t k = 0; k < dimensions_; k += segment)
                for (std::int64_t i = first; i < std::min(first + tile_rows, rows); ++i)
                    if (!load_segment(x.row(begin + i), mean.data(), i, k))
                        broken.report(begin + i);
    }

    const float* row(std::int64_t panel, std::int64_t k) const {
        return values_.data() + (panel * dimensions_ + k) * tile_rows;
    }

  private:
    static constexpr std::int64_t segment = 256;  // of a panel that stays in the nearest cache

    bool load_segment(const float* row, const float* mean, std::int64_t i, std::int64_t begin) {
        alignas(64) float centred[segment];
        const std::int64_t count = std::min(segment, dimensions_ - begin);
        const bool finite = subtract(row + begin, mean + begin, count, centred);
        float* to =
            values_.data() + (i / tile_rows * dimensions_ + begin) * tile_rows + i % tile_rows;
        for (std::int64_t k = 0; k < count; ++k) to[k * tile_rows] = centred[k];
        return finite;
    }

    std::int64_t dimensions_;
    AlignedArray<float> values_;
};

void add(const Tile& tile, bool first, std::int64_t row, std::int64_t end_row, std::int64_t col,
         MatrixView<float> out) {
    alignas(64) float values[tile_rows * tile_cols];
    store(tile, values);
    const std::int64_t rows = std::min(tile_rows, end_row - row);
    const std::int64_t cols = std::min(tile_cols, out.cols - col);
    for (std::int64_t i = 0; i < rows; ++i) {
        float* __restrict to = out.row(row + i) + col;
        const float* __restrict from = values + i * tile_cols;
        if (first)
            std::copy_n(from, cols, to);
        else
            for (std::int64_t j = 0; j < cols; ++j) to[j] += from[j];
    }
}

// Rows [begin, begin + rows) of out; `packed` holds those of x.
void project_rows(const PackedRows& packed, const PackedProjection& projection, std::int64_t begin,
                  std::int64_t rows, std::int64_t dimensions, MatrixView<float> out) {
    Tile tile;
    for (std::int64_t k = 0; k < dimensions; k += product_depth) {
        for (std::int64_t panel = 0; panel < projection.panels(); ++panel) {
            const std::int64_t depth = std::min(product_depth, projection.depth(panel) - k);
            if (depth <= 0) continue;
            for (std::int64_t p = 0; p * tile_rows < rows; ++p) {
                prefetch(out, begin + p * tile_rows, panel * tile_cols);
                multiply(packed.row(p, k), projection.row(panel, k), depth, tile);
                add(tile, k == 0, begin + p * tile_rows, begin + rows, panel * tile_cols, out);
            }
        }
    }
}

}  // namespace

std::int64_t project(MatrixView<const float> x, std::span<const float> mean,
                     MatrixView<const float> projection, MatrixView<float> out,
                     const Context& context) {
    require(mean.size() == static_cast<std::size_t>(x.cols) && projection.rows == x.cols &&
                out.rows == x.rows && out.cols == projection.cols,
            "mean, projection and out must have the dimensions of x and out");
    ThreadPool pool(context);
    const PackedProjection panels(projection, pool);
    std::vector<std::unique_ptr<PackedRows>> workers(static_cast<std::size_t>(pool.size()));
    FirstRow broken;
    pool.parallel_for(
        num_blocks(x.rows, task_rows),
        [&](std::int64_t task, int worker) {
            auto& packed = workers[static_cast<std::size_t>(worker)];
            if (!packed) packed = std::make_unique<PackedRows>(x.cols);
            const std::int64_t begin = task * task_rows;
            const std::int64_t rows = std::min(task_rows, x.rows - begin);
            packed->load(x, mean, begin, rows, broken);
            project_rows(*packed, panels, begin, rows, x.cols, out);
        },
        1, 0.0, 1.0);
    return broken.get();
}

}  // namespace cliquesim::whitening
