#include "neighbors/neighbors.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "common/similarity.hpp"
#include "common/thread_pool.hpp"
#include "neighbors/candidates.hpp"
#include "neighbors/int16_products.hpp"
#include "neighbors/plan.hpp"
#include "neighbors/similarity_tiles.hpp"
#include "neighbors/tile_scan.hpp"

namespace cliquesim {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

struct BlockLists {
    BlockLists(std::int64_t rows, std::int64_t k, std::int64_t n_bottom)
        : top(rows, k), bottom(rows, n_bottom) {}

    void copy_bounds(Bounds& bounds) {
        const std::lock_guard lock(mutex);
        std::copy(top.thresholds().begin(), top.thresholds().end(), bounds.top.begin());
        std::transform(bottom.thresholds().begin(), bottom.thresholds().end(),
                       bounds.bottom.begin(), std::negate<>());
    }

    std::mutex mutex;
    CandidateTable top;
    CandidateTable bottom;  // of the negated similarities
};

struct Workspace {
    SimilarityTiles::Scratch tile;
    TileScan scan;
};

void add_unresolved(std::int64_t row, std::span<Candidate> candidates, float sign,
                    std::vector<SimilarityTiles::Unresolved>& out) {
    for (Candidate& candidate : candidates)
        if (!candidate.exact()) out.push_back({row, &candidate, sign});
}

class NeighborFinder {
  public:
    NeighborFinder(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                   const Context& context);
    void run();
    void write(const NeighborLists& out);
    NeighborReport report() const;

  private:
    using Serves = SimilarityTiles::Serves;

    void process(std::int64_t row_block, std::int64_t col_block, Workspace& workspace);
    void process(std::int64_t row_block, std::int64_t col_block, Serves serves,
                 Workspace& workspace);
    bool worth_a_try(const TileScan& scan, std::int64_t rows, std::int64_t cols);
    void take(std::int64_t block, Found& found);
    std::int64_t first_row(std::int64_t block) const { return tiles_.row_blocks().begin(block); }
    // What the tables call when too many intervals overlap.
    auto resolver(std::int64_t block, float sign) {
        return [this, block, sign](std::int64_t row, std::span<Candidate> candidates) {
            std::vector<SimilarityTiles::Unresolved> unresolved;
            add_unresolved(first_row(block) + row, candidates, sign, unresolved);
            recomputed_ += tiles_.resolve(unresolved);
        };
    }
    void resolve_blocks(std::int64_t begin, std::int64_t end);
    void write_block(std::int64_t block, const NeighborLists& out);

    Exclusion excluded_;
    ThreadPool pool_;
    SearchPlan plan_;
    SimilarityTiles tiles_;
    std::int64_t k_ = 0, n_bottom_ = 0;
    std::vector<std::unique_ptr<BlockLists>> lists_;
    std::atomic<std::int64_t> tried_{0}, failed_{0}, exact_tiles_{0}, recomputed_{0};
};

NeighborFinder::NeighborFinder(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                               const Context& context)
    : excluded_(exclusion_of(search)),
      pool_(context),
      plan_(plan_search(search, k, n_bottom, pool_.size())),
      tiles_(search, plan_.tiles, pool_) {
    const RowBlocks& blocks = tiles_.row_blocks();
    const std::int64_t most = search.corpus.rows - (tiles_.symmetric() ? 1 : 0);
    k_ = std::min(k, most);
    n_bottom_ = std::min(n_bottom, most);
    for (std::int64_t block = 0; block < blocks.count(); ++block)
        lists_.push_back(std::make_unique<BlockLists>(blocks.size(block), k_, n_bottom_));
}

void NeighborFinder::run() {
    std::vector<Workspace> workspaces(static_cast<std::size_t>(pool_.size()));
    const std::int64_t rows = tiles_.row_blocks().count(), cols = tiles_.col_blocks().count();
    // Every unordered pair of blocks once, along cyclic diagonals: tiles that are worked on at the
    // same time rarely share a block, and all thresholds become sharp together.
    const std::int64_t count = tiles_.symmetric() ? rows * (rows + 1) / 2 : rows * cols;
    pool_.parallel_for(
        count,
        [&](std::int64_t t, int worker) {
            const std::int64_t row_block = tiles_.symmetric() ? t % rows : t / cols;
            const std::int64_t col_block =
                tiles_.symmetric() ? (row_block + t / rows) % rows : t % cols;
            process(row_block, col_block, workspaces[static_cast<std::size_t>(worker)]);
        },
        1, 0.0, 1.0);
}

void NeighborFinder::process(std::int64_t row_block, std::int64_t col_block, Workspace& workspace) {
    if (!tiles_.symmetric()) return process(row_block, col_block, Serves::rows, workspace);
    if (!tiles_.mirrored()) return process(row_block, col_block, Serves::both, workspace);
    process(row_block, col_block, Serves::rows, workspace);
    if (row_block != col_block) process(row_block, col_block, Serves::cols, workspace);
}

void NeighborFinder::process(std::int64_t row_block, std::int64_t col_block, Serves serves,
                             Workspace& workspace) {
    TileScan& scan = workspace.scan;
    const std::int64_t rows = tiles_.row_blocks().size(row_block);
    const std::int64_t cols = tiles_.col_blocks().size(col_block);
    scan.row_bounds.close(rows);
    scan.col_bounds.close(cols);
    if (serves != Serves::cols)
        lists_[static_cast<std::size_t>(row_block)]->copy_bounds(scan.row_bounds);
    if (serves == Serves::cols || (serves == Serves::both && row_block != col_block))
        lists_[static_cast<std::size_t>(col_block)]->copy_bounds(scan.col_bounds);
    bool done = false;
    if (tiles_.int16() && worth_a_try(scan, rows, cols)) {
        ++tried_;
        const auto most = static_cast<std::size_t>(rows * cols);
        done = scan.run(tiles_.tile(row_block, col_block, serves, true, workspace.tile), most,
                        excluded_);
        if (!done) ++failed_;
    }
    if (!done) {
        scan.row_found.clear();
        scan.col_found.clear();
        ++exact_tiles_;
        const SimilarityTile tile =
            tiles_.tile(row_block, col_block, serves, false, workspace.tile);
        scan.seed(tile, k_, n_bottom_, excluded_);
        scan.run(tile, std::numeric_limits<std::size_t>::max(), excluded_);
    }
    take(row_block, scan.row_found);
    take(col_block, scan.col_found);
}

// An int16 tile of which much passes is followed by an exact one. It is left out where the lists
// are not full yet, and mostly where it failed before, as among equal rows.
bool NeighborFinder::worth_a_try(const TileScan& scan, std::int64_t rows, std::int64_t cols) {
    const auto open = [](const Bounds& bounds) {
        return std::count(bounds.top.begin(), bounds.top.end(), -infinity) +
               std::count(bounds.bottom.begin(), bounds.bottom.end(), infinity);
    };
    if (8 * open(scan.row_bounds) > rows || 8 * open(scan.col_bounds) > cols) return false;
    const std::int64_t tried = tried_, failed = failed_;
    return 2 * failed <= tried + 16 || exact_tiles_ % 16 == 0;
}

void NeighborFinder::take(std::int64_t block, Found& found) {
    if (found.size() == 0) return;
    BlockLists& lists = *lists_[static_cast<std::size_t>(block)];
    const std::lock_guard lock(lists.mutex);
    for (const auto& [row, candidate] : found.top)
        lists.top.push(row, candidate, resolver(block, 1.0f));
    for (const auto& [row, candidate] : found.bottom)
        lists.bottom.push(row, candidate, resolver(block, -1.0f));
    found.clear();
}

// `sign` -1 undoes the negation of the bottom table's scores.
void write_row(std::span<const Candidate> found, std::span<std::int64_t> indices,
               std::span<float> similarities, std::span<bool> flips, float sign) {
    std::fill(indices.begin(), indices.end(), -1);
    std::fill(similarities.begin(), similarities.end(), -sign * infinity);
    std::fill(flips.begin(), flips.end(), false);
    for (std::size_t place = 0; place < found.size(); ++place) {
        indices[place] = found[place].code >> 1;
        similarities[place] = sign * found[place].lower + 0.0f;
        if (!flips.empty()) flips[place] = (found[place].code & 1u) != 0;
    }
}

std::span<bool> flips_of(MatrixView<bool> flips, std::int64_t row) {
    return flips.data == nullptr ? std::span<bool>() : flips.row_span(row);
}

// What is left of the intervals, several blocks at a time.
void NeighborFinder::resolve_blocks(std::int64_t begin, std::int64_t end) {
    std::vector<SimilarityTiles::Unresolved> unresolved;
    for (std::int64_t block = begin; block < end; ++block) {
        BlockLists& lists = *lists_[static_cast<std::size_t>(block)];
        for (std::int64_t a = 0; a < tiles_.row_blocks().size(block); ++a) {
            add_unresolved(first_row(block) + a, lists.top.remaining(a), 1.0f, unresolved);
            add_unresolved(first_row(block) + a, lists.bottom.remaining(a), -1.0f, unresolved);
        }
    }
    recomputed_ += tiles_.resolve(unresolved);
}

void NeighborFinder::write_block(std::int64_t block, const NeighborLists& out) {
    BlockLists& lists = *lists_[static_cast<std::size_t>(block)];
    for (std::int64_t a = 0; a < tiles_.row_blocks().size(block); ++a) {
        const std::int64_t row = first_row(block) + a;
        write_row(lists.top.sorted(a), out.indices.row_span(row), out.similarities.row_span(row),
                  flips_of(out.flips, row), 1.0f);
        write_row(lists.bottom.sorted(a), out.bottom_indices.row_span(row),
                  out.bottom_similarities.row_span(row), flips_of(out.bottom_flips, row), -1.0f);
    }
}

void NeighborFinder::write(const NeighborLists& out) {
    const std::int64_t blocks = tiles_.row_blocks().count();
    pool_.parallel_for((blocks + blocks_together - 1) / blocks_together,
                       [&](std::int64_t group, int) {
                           const std::int64_t begin = group * blocks_together;
                           const std::int64_t end = std::min(begin + blocks_together, blocks);
                           resolve_blocks(begin, end);
                           for (std::int64_t block = begin; block < end; ++block)
                               write_block(block, out);
                       });
}

NeighborReport NeighborFinder::report() const {
    NeighborReport report;
    report.int16 = tiles_.int16();
    report.instructions = int16_instructions();
    report.error_bound = tiles_.margin();
    report.exact_tiles = exact_tiles_;
    report.tiles = exact_tiles_ + tried_ - failed_;
    report.recomputed = recomputed_;
    report.memory = plan_.memory;
    return report;
}

}  // namespace

NeighborReport find_neighbors(const NeighborSearch& search, const NeighborLists& out,
                              const Context& context) {
    NeighborFinder finder(search, out.indices.cols, out.bottom_indices.cols, context);
    finder.run();
    finder.write(out);
    return finder.report();
}

}  // namespace cliquesim
