#include "neighbors/neighbors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "common/errors.hpp"
#include "common/similarity.hpp"
#include "common/thread_pool.hpp"
#include "neighbors/candidates.hpp"
#include "neighbors/row_blocks.hpp"
#include "temporal/sequences.hpp"

namespace cliquesim {

namespace {

constexpr std::int64_t scan_width = 16;  // columns per threshold test; divides tile_multiple
constexpr float infinity = std::numeric_limits<float>::infinity();

struct Candidate {
    std::int64_t row;  // within its block
    std::uint64_t key;
};

struct Found {
    std::vector<Candidate> top, bottom;
};

// Similarities outside (bottom, top) may change a row's lists. Copies of the tables' thresholds:
// an old copy lets more candidates pass, never fewer.
struct Bounds {
    std::vector<float> top, bottom;

    void open(std::size_t size) {  // nothing passes
        top.assign(size, infinity);
        bottom.assign(size, -infinity);
    }
};

struct BlockLists {
    BlockLists(std::int64_t rows, std::int64_t k, std::int64_t n_bottom)
        : top(rows, k), bottom(rows, n_bottom) {}

    void copy_bounds(Bounds& bounds) {
        const std::lock_guard lock(mutex);
        std::copy(top.thresholds().begin(), top.thresholds().end(), bounds.top.begin());
        std::transform(bottom.thresholds().begin(), bottom.thresholds().end(),
                       bounds.bottom.begin(), std::negate<>());
    }

    void take(Found& found) {
        const std::lock_guard lock(mutex);
        for (const Candidate& candidate : found.top) top.push(candidate.row, candidate.key);
        for (const Candidate& candidate : found.bottom) bottom.push(candidate.row, candidate.key);
        found.top.clear();
        found.bottom.clear();
    }

    std::mutex mutex;
    CandidateTable top;
    CandidateTable bottom;  // of the negated similarities
};

// What one thread needs for a tile.
struct Workspace {
    std::vector<float> products, pooled;
    Bounds row_bounds, col_bounds;
    Found row_found, col_found;
};

class NeighborFinder {
  public:
    NeighborFinder(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                   const Context& context);
    void run();
    void write(const NeighborLists& out);

  private:
    bool excluded(std::int64_t row, std::int64_t col) const;
    void process_tile(std::int64_t row_block, std::int64_t col_block, Workspace& workspace);
    MatrixView<const float> similarities(std::int64_t row_block, std::int64_t col_block,
                                         Workspace& workspace) const;
    void scan(MatrixView<const float> tile, std::int64_t row_block, std::int64_t col_block,
              Workspace& workspace) const;
    void collect(const float* values, std::int64_t a, std::int64_t b_begin, std::int64_t b_end,
                 std::int64_t row_block, std::int64_t col_block, Workspace& workspace) const;

    NeighborSearch search_;
    bool symmetric_;
    ThreadPool pool_;
    std::vector<float> standardized_, standardized_queries_;
    SequenceReach reach_, query_reach_;
    std::int64_t halo_ = 0;
    RowBlocks corpus_blocks_, query_blocks_;
    const RowBlocks* row_blocks_ = nullptr;  // the rows that get lists
    std::vector<std::unique_ptr<BlockLists>> lists_;
};

MatrixView<const float> standardize(MatrixView<const float> rows, std::vector<float>& storage,
                                    ThreadPool& pool) {
    storage.resize(static_cast<std::size_t>(rows.rows * rows.cols));
    const MatrixView<float> out(storage.data(), rows.rows, rows.cols);
    pool.parallel_for(
        rows.rows, [&](std::int64_t i, int) { standardize_row(rows.row_span(i), out.row_span(i)); },
        256);
    return out;
}

void check(const NeighborSearch& search, bool symmetric) {
    const std::int64_t n = search.corpus.rows;
    require(n < 0xffffffff, "X may have at most 2^32 - 2 rows");
    require(search.corpus.cols > 0, "X must have at least one column");
    require(symmetric || search.queries.cols == search.corpus.cols,
            "queries must have as many columns as X");
    require(search.groups.empty() || static_cast<std::int64_t>(search.groups.size()) == n,
            "groups must have one label per row of X");
    require(search.query_groups.empty() ||
                static_cast<std::int64_t>(search.query_groups.size()) == search.queries.rows,
            "query_groups must have one label per query");
    require(search.sequences.empty() || static_cast<std::int64_t>(search.sequences.size()) == n,
            "sequences must have one label per row of X");
    require(search.pool_radius >= 0, "pool_radius must be at least 0");
    const bool grouped = (!search.groups.empty() || !search.sequences.empty()) &&
                         (symmetric || !search.query_groups.empty());
    require(
        search.pool_radius == 0 || grouped || n == 0 || (!symmetric && search.queries.rows == 0),
        "pool_radius needs groups (and query_groups): the sequences to pool within");
}

NeighborFinder::NeighborFinder(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                               const Context& context)
    : search_(search), symmetric_(search.queries.data == nullptr), pool_(context) {
    check(search_, symmetric_);
    if (search_.correlation) {
        search_.corpus = standardize(search_.corpus, standardized_, pool_);
        search_.queries = standardize(search_.queries, standardized_queries_, pool_);
    } else {
        require_finite_products(search_.corpus, "X", pool_);
        require_finite_products(search_.queries, "queries", pool_);
    }
    if (search_.pool_radius > 0) {
        reach_ = search_.sequences.empty()
                     ? sequence_reach(search_.groups, search_.pool_radius, "groups")
                     : sequence_reach(search_.sequences, search_.pool_radius, "sequences");
        query_reach_ = sequence_reach(search_.query_groups, search_.pool_radius, "query_groups");
        halo_ = symmetric_ ? reach_.radius() : std::min(reach_.radius(), query_reach_.radius());
    }
    corpus_blocks_ = RowBlocks(search_.corpus, halo_);
    if (!symmetric_) query_blocks_ = RowBlocks(search_.queries, halo_);
    row_blocks_ = symmetric_ ? &corpus_blocks_ : &query_blocks_;
    const std::int64_t most = search_.corpus.rows - (symmetric_ ? 1 : 0);
    for (std::int64_t block = 0; block < row_blocks_->count(); ++block)
        lists_.push_back(std::make_unique<BlockLists>(row_blocks_->size(block), std::min(k, most),
                                                      std::min(n_bottom, most)));
}

void NeighborFinder::run() {
    std::vector<Workspace> workspaces(static_cast<std::size_t>(pool_.size()));
    const auto run_tile = [&](std::int64_t row_block, std::int64_t col_block, int worker) {
        process_tile(row_block, col_block, workspaces[static_cast<std::size_t>(worker)]);
    };
    const std::int64_t row_count = row_blocks_->count();
    const std::int64_t col_count = corpus_blocks_.count();
    if (!symmetric_) {
        pool_.parallel_for(
            row_count * col_count,
            [&](std::int64_t t, int worker) { run_tile(t / col_count, t % col_count, worker); }, 1,
            0.0, 1.0);
        return;
    }
    // Every unordered pair of blocks once, along cyclic diagonals: tiles that are worked on at the
    // same time rarely share a block, and all thresholds become sharp together.
    pool_.parallel_for(
        row_count * (row_count + 1) / 2,
        [&](std::int64_t t, int worker) {
            const std::int64_t block = t % row_count;
            run_tile(block, (block + t / row_count) % row_count, worker);
        },
        1, 0.0, 1.0);
}

bool NeighborFinder::excluded(std::int64_t row, std::int64_t col) const {
    if (symmetric_ && row == col) return true;
    const auto& row_groups = symmetric_ ? search_.groups : search_.query_groups;
    if (row_groups.empty() || search_.groups.empty()) return false;
    if (row_groups[static_cast<std::size_t>(row)] != search_.groups[static_cast<std::size_t>(col)])
        return false;
    return search_.group_window < 0 || std::abs(row - col) <= search_.group_window;
}

void NeighborFinder::process_tile(std::int64_t row_block, std::int64_t col_block,
                                  Workspace& workspace) {
    const auto row_edge = static_cast<std::size_t>(row_blocks_->edge());
    const auto col_edge = static_cast<std::size_t>(corpus_blocks_.edge());
    workspace.row_bounds.open(row_edge);
    workspace.col_bounds.open(col_edge);
    const MatrixView<const float> tile = similarities(row_block, col_block, workspace);
    // The transposed tile belongs to the other block's rows; a tile on the diagonal holds both.
    const bool serves_cols = symmetric_ && row_block != col_block;
    BlockLists& row_lists = *lists_[static_cast<std::size_t>(row_block)];
    row_lists.copy_bounds(workspace.row_bounds);
    if (serves_cols) lists_[static_cast<std::size_t>(col_block)]->copy_bounds(workspace.col_bounds);
    scan(tile, row_block, col_block, workspace);
    row_lists.take(workspace.row_found);
    if (serves_cols) lists_[static_cast<std::size_t>(col_block)]->take(workspace.col_found);
}

MatrixView<const float> NeighborFinder::similarities(std::int64_t row_block, std::int64_t col_block,
                                                     Workspace& workspace) const {
    const std::int64_t edge = row_blocks_->edge();
    const std::int64_t stride = corpus_blocks_.edge();
    workspace.products.resize(static_cast<std::size_t>(edge * stride));
    const MatrixView<float> products(workspace.products.data(), edge, stride);
    similarity_tile(row_blocks_->panel(row_block), corpus_blocks_.panel(col_block), products);
    if (halo_ == 0) return products;

    const SequenceReach& all_rows = symmetric_ ? reach_ : query_reach_;
    const auto cap = static_cast<std::int32_t>(halo_);
    workspace.pooled.resize(workspace.products.size());
    const MatrixView<float> pooled(workspace.pooled.data(), edge, stride);
    const std::int64_t col_begin = corpus_blocks_.begin(col_block);
    for (std::int64_t a = 0; a < row_blocks_->size(row_block); ++a) {
        const Reach reach = all_rows[row_blocks_->begin(row_block) + a];
        pooled_row(products.row(halo_ + a) + halo_, stride,
                   {smaller(reach.before, cap), smaller(reach.after, cap)},
                   reach_.before.data() + col_begin, reach_.after.data() + col_begin,
                   corpus_blocks_.size(col_block), pooled.row(a));
    }
    return pooled;
}

void NeighborFinder::scan(MatrixView<const float> tile, std::int64_t row_block,
                          std::int64_t col_block, Workspace& workspace) const {
    const std::int64_t cols = corpus_blocks_.size(col_block);
    for (std::int64_t a = 0; a < row_blocks_->size(row_block); ++a) {
        const float row_top = workspace.row_bounds.top[static_cast<std::size_t>(a)];
        const float row_bottom = workspace.row_bounds.bottom[static_cast<std::size_t>(a)];
        for (std::int64_t b = 0; b < cols; b += scan_width) {
            const float* values = tile.row(a) + b;
            const float* col_top = workspace.col_bounds.top.data() + b;
            const float* col_bottom = workspace.col_bounds.bottom.data() + b;
            int hit = 0;
            for (std::int64_t c = 0; c < scan_width; ++c) {
                hit |= values[c] >= std::min(row_top, col_top[c]) ? 1 : 0;
                hit |= values[c] <= std::max(row_bottom, col_bottom[c]) ? 1 : 0;
            }
            if (hit != 0) [[unlikely]]
                collect(tile.row(a), a, b, std::min(b + scan_width, cols), row_block, col_block,
                        workspace);
        }
    }
}

void NeighborFinder::collect(const float* values, std::int64_t a, std::int64_t b_begin,
                             std::int64_t b_end, std::int64_t row_block, std::int64_t col_block,
                             Workspace& workspace) const {
    const auto r = static_cast<std::size_t>(a);
    const std::int64_t row = row_blocks_->begin(row_block) + a;
    for (std::int64_t b = b_begin; b < b_end; ++b) {
        const auto c = static_cast<std::size_t>(b);
        const std::int64_t col = corpus_blocks_.begin(col_block) + b;
        const float value = values[b];
        const bool row_top = value >= workspace.row_bounds.top[r];
        const bool row_bottom = value <= workspace.row_bounds.bottom[r];
        const bool col_top = value >= workspace.col_bounds.top[c];
        const bool col_bottom = value <= workspace.col_bounds.bottom[c];
        if (!(row_top || row_bottom || col_top || col_bottom) || excluded(row, col)) continue;
        if (row_top) workspace.row_found.top.push_back({a, candidate_key(value, col)});
        if (row_bottom) workspace.row_found.bottom.push_back({a, candidate_key(-value, col)});
        if (col_top) workspace.col_found.top.push_back({b, candidate_key(value, row)});
        if (col_bottom) workspace.col_found.bottom.push_back({b, candidate_key(-value, row)});
    }
}

// `sign` -1 undoes the negation of the bottom table's scores.
void write_row(std::span<const std::uint64_t> keys, std::span<std::int64_t> indices,
               std::span<float> similarities, float sign) {
    std::fill(indices.begin(), indices.end(), -1);
    std::fill(similarities.begin(), similarities.end(), -sign * infinity);
    for (std::size_t place = 0; place < keys.size(); ++place) {
        indices[place] = key_index(keys[place]);
        similarities[place] = sign * key_score(keys[place]) + 0.0f;
    }
}

void NeighborFinder::write(const NeighborLists& out) {
    pool_.parallel_for(row_blocks_->count(), [&](std::int64_t block, int) {
        BlockLists& lists = *lists_[static_cast<std::size_t>(block)];
        for (std::int64_t a = 0; a < row_blocks_->size(block); ++a) {
            const std::int64_t row = row_blocks_->begin(block) + a;
            write_row(lists.top.sorted(a), out.indices.row_span(row),
                      out.similarities.row_span(row), 1.0f);
            write_row(lists.bottom.sorted(a), out.bottom_indices.row_span(row),
                      out.bottom_similarities.row_span(row), -1.0f);
        }
    });
}

}  // namespace

void find_neighbors(const NeighborSearch& search, const NeighborLists& out,
                    const Context& context) {
    NeighborFinder finder(search, out.indices.cols, out.bottom_indices.cols, context);
    finder.run();
    finder.write(out);
}

}  // namespace cliquesim
