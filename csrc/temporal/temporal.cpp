#include "temporal/temporal.hpp"

#include <algorithm>
#include <vector>

#include "common/errors.hpp"
#include "common/similarity.hpp"
#include "common/thread_pool.hpp"
#include "temporal/windows.hpp"

namespace cliquesim {

namespace {

constexpr std::int64_t usual_edge = 384;

// Requests in ascending order of their frames whose windows lie close together, for one tile side.
struct Chunk {
    std::int64_t begin, end;  // in WindowPlan::order
    std::int64_t first;       // position of the first request
    std::int64_t count;       // positions from the first to the last request
};

// One side of the similarity matrix: the features of all windows, gathered.
struct Side {
    WindowPlan plan;
    std::vector<Chunk> chunks;
    std::vector<float> gathered;
    std::int64_t cols = 0;
    std::int64_t radius = 0;
    std::int64_t edge = 0;  // longest panel

    // Rows first - radius ... of the gathered features, padded to whole register blocks.
    MatrixView<const float> panel(const Chunk& chunk) const {
        return {gathered.data() + chunk.first * cols, round_up_to_tile(chunk.count + 2 * radius),
                cols};
    }
};

std::vector<Chunk> cut(const WindowPlan& plan, std::int64_t radius) {
    const std::int64_t longest = std::max(usual_edge, 6 * radius) - 2 * radius;
    std::vector<Chunk> chunks;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(plan.order.size()); ++i) {
        const auto request = static_cast<std::size_t>(plan.order[static_cast<std::size_t>(i)]);
        const std::int64_t position = plan.positions[request];
        if (chunks.empty() || position - chunks.back().first >= longest)
            chunks.push_back({i, i, position, 1});
        chunks.back().end = i + 1;
        chunks.back().count = position - chunks.back().first + 1;
    }
    return chunks;
}

Side make_side(MatrixView<const float> features, std::span<const std::int64_t> requests,
               const SequenceReach& reach, bool correlation, const char* name, ThreadPool& pool) {
    Side side;
    side.plan = plan_windows(requests, reach, name);
    side.cols = features.cols;
    side.radius = reach.radius();
    side.chunks = cut(side.plan, side.radius);
    for (const Chunk& chunk : side.chunks)
        side.edge = std::max(side.edge, round_up_to_tile(chunk.count + 2 * side.radius));
    // A margin of zeros, because panels reach `radius` rows beyond the first and last request.
    const auto frames = static_cast<std::int64_t>(side.plan.frames.size());
    side.gathered.resize(
        static_cast<std::size_t>((frames + 2 * side.radius + tile_multiple) * side.cols));
    const MatrixView<float> out(side.gathered.data() + side.radius * side.cols, frames, side.cols);
    pool.parallel_for(
        frames,
        [&](std::int64_t i, int) {
            const auto row = features.row_span(side.plan.frames[static_cast<std::size_t>(i)]);
            if (correlation)
                standardize_row(row, out.row_span(i));
            else
                std::copy(row.begin(), row.end(), out.row(i));
        },
        256);
    return side;
}

struct Workspace {
    std::vector<float> products, pooled;
    std::vector<std::int32_t> before, after;  // per position of the column chunk
};

// The reach of every position of a chunk; positions that nobody asked for get none.
void chunk_reach(const Side& side, const Chunk& chunk, const SequenceReach& reach,
                 Workspace& workspace) {
    workspace.before.assign(static_cast<std::size_t>(chunk.count), 0);
    workspace.after.assign(static_cast<std::size_t>(chunk.count), 0);
    for (std::int64_t i = chunk.begin; i < chunk.end; ++i) {
        const auto request = static_cast<std::size_t>(side.plan.order[static_cast<std::size_t>(i)]);
        const auto position = static_cast<std::size_t>(side.plan.positions[request]);
        const Reach own = reach[side.plan.frames[position]];
        workspace.before[position - static_cast<std::size_t>(chunk.first)] = own.before;
        workspace.after[position - static_cast<std::size_t>(chunk.first)] = own.after;
    }
}

void pool_tile(const Side& row_side, const Chunk& row_chunk, const Side& col_side,
               const Chunk& col_chunk, const SequenceReach& reach, MatrixView<float> out,
               Workspace& workspace) {
    const auto row_panel = row_side.panel(row_chunk);
    const auto col_panel = col_side.panel(col_chunk);
    workspace.products.resize(static_cast<std::size_t>(row_side.edge * col_side.edge));
    workspace.pooled.resize(static_cast<std::size_t>(col_chunk.count));
    const MatrixView<float> products(workspace.products.data(), row_panel.rows, col_panel.rows);
    similarity_tile(row_panel, col_panel, products);
    chunk_reach(col_side, col_chunk, reach, workspace);
    for (std::int64_t i = row_chunk.begin; i < row_chunk.end; ++i) {
        const std::int64_t row = row_side.plan.order[static_cast<std::size_t>(i)];
        const std::int64_t position = row_side.plan.positions[static_cast<std::size_t>(row)];
        const float* center =
            products.row(row_side.radius + position - row_chunk.first) + col_side.radius;
        pooled_row(center, products.stride,
                   reach[row_side.plan.frames[static_cast<std::size_t>(position)]],
                   workspace.before.data(), workspace.after.data(), col_chunk.count,
                   workspace.pooled.data());
        for (std::int64_t j = col_chunk.begin; j < col_chunk.end; ++j) {
            const std::int64_t col = col_side.plan.order[static_cast<std::size_t>(j)];
            const std::int64_t place = col_side.plan.positions[static_cast<std::size_t>(col)];
            out(row, col) = workspace.pooled[static_cast<std::size_t>(place - col_chunk.first)];
        }
    }
}

}  // namespace

void pooled_similarity(const PooledSimilarityRequest& request, MatrixView<float> out,
                       const Context& context) {
    const auto& [features, col_features, rows, cols, sequence, radius, correlation] = request;
    require(features.cols > 0, "features must have at least one column");
    require(col_features.rows == features.rows && col_features.cols == features.cols,
            "col_features must have the shape of features");
    require(static_cast<std::int64_t>(sequence.size()) == features.rows,
            "sequence must have one label per row of features");
    ThreadPool pool(context);
    if (!correlation) {
        require_finite_products(features, "features", pool);
        if (col_features.data != features.data)
            require_finite_products(col_features, "col_features", pool);
    }
    const SequenceReach reach = sequence_reach(sequence, radius, "sequence");
    const Side row_side = make_side(features, rows, reach, correlation, "rows", pool);
    const Side col_side = make_side(col_features, cols, reach, correlation, "cols", pool);
    std::vector<Workspace> workspaces(static_cast<std::size_t>(pool.size()));
    const auto col_count = static_cast<std::int64_t>(col_side.chunks.size());
    pool.parallel_for(
        static_cast<std::int64_t>(row_side.chunks.size()) * col_count,
        [&](std::int64_t t, int worker) {
            pool_tile(row_side, row_side.chunks[static_cast<std::size_t>(t / col_count)], col_side,
                      col_side.chunks[static_cast<std::size_t>(t % col_count)], reach, out,
                      workspaces[static_cast<std::size_t>(worker)]);
        },
        1, 0.0, 1.0);
}

}  // namespace cliquesim
