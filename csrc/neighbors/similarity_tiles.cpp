#include "neighbors/similarity_tiles.hpp"

#include <algorithm>
#include <limits>

#include "common/errors.hpp"
#include "common/similarity.hpp"
#include "neighbors/float_products.hpp"
#include "neighbors/int16_products.hpp"

namespace cliquesim {

namespace {

MatrixView<const float> standardize(MatrixView<const float> rows, std::vector<float>& storage,
                                    ThreadPool& pool) {
    storage.resize(static_cast<std::size_t>(rows.rows * rows.cols));
    const MatrixView<float> out(storage.data(), rows.rows, rows.cols);
    pool.parallel_for(
        rows.rows, [&](std::int64_t i, int) { standardize_row(rows.row_span(i), out.row_span(i)); },
        256);
    return out;
}

// The greatest length in each row's window.
std::vector<float> window_lengths(std::span<const float> lengths, const SequenceReach& reach) {
    std::vector<float> longest(lengths.begin(), lengths.end());
    for (std::size_t row = 0; row < reach.before.size(); ++row) {
        const auto first = lengths.begin() + static_cast<std::int64_t>(row) - reach.before[row];
        longest[row] = *std::max_element(first, first + reach.before[row] + reach.after[row] + 1);
    }
    return longest;
}

// Below the diagonal as above it, square by square.
void mirror_upper(float* values, std::int64_t stride, std::int64_t size) {
    constexpr std::int64_t square = 16;
    for (std::int64_t r = 0; r < size; r += square)
        for (std::int64_t c = r; c < size; c += square)
            for (std::int64_t a = r; a < std::min(r + square, size); ++a)
                for (std::int64_t b = std::max(c, a + 1); b < std::min(c + square, size); ++b)
                    values[b * stride + a] = values[a * stride + b];
}

}  // namespace

SearchWindows::SearchWindows(const NeighborSearch& search) {
    if (search.pool_radius == 0) return;
    corpus = search.sequences.empty()
                 ? sequence_reach(search.groups, search.pool_radius, "groups")
                 : sequence_reach(search.sequences, search.pool_radius, "sequences");
    queries = sequence_reach(search.query_groups, search.pool_radius, "query_groups");
    halo = search.queries.data == nullptr ? corpus.radius()
                                          : std::min(corpus.radius(), queries.radius());
}

SimilarityTiles::SimilarityTiles(const NeighborSearch& search, const TilePlan& plan,
                                 ThreadPool& pool)
    : search_(search), symmetric_(search.queries.data == nullptr) {
    if (!search.correlation) {
        require_finite_products(search.corpus, "X", pool);
        require_finite_products(search.queries, "queries", pool);
        require_finite_products(search.mirrored, "mirrored", pool);
    }
    SearchWindows windows(search);
    halo_ = windows.halo;
    corpus_.reach = windows.corpus;
    queries_.reach = windows.queries;
    const std::int64_t depth = search.corpus.cols;
    corpus_.rows = search.corpus;
    corpus_.blocks = RowBlocks(search.corpus.rows, depth, halo_);
    queries_.rows = search.queries;
    queries_.blocks = RowBlocks(search.queries.rows, depth, halo_);
    mirrored_.rows = search.mirrored;
    mirrored_.blocks = RowBlocks(search.mirrored.rows, depth, halo_);
    mirrored_.reach = corpus_.reach;
    for (Side* side : {&corpus_, &queries_, &mirrored_})
        if (side->rows.data != nullptr) prepare(*side, plan, pool);
    if (plan.int16) int16_ = round_to_int16(pool);
}

void SimilarityTiles::prepare(Side& side, const TilePlan& plan, ThreadPool& pool) const {
    // Single similarities need the rows themselves.
    const bool copy = search_.correlation && plan.int16;
    if (copy) side.rows = standardize(side.rows, side.standardized, pool);
    side.floats = FloatPanels(side.rows, side.blocks, search_.correlation && !copy);
    if (plan.keep_panels) side.floats.keep(pool);
}

// False, and nothing is kept, where rows are too short or too long.
bool SimilarityTiles::round_to_int16(ThreadPool& pool) {
    bool in_range = true;
    for (Side* side : {&corpus_, &queries_, &mirrored_}) {
        if (side->rows.data == nullptr) continue;
        side->int16s = Int16Panels(side->rows, side->blocks, pool);
        in_range = in_range && side->int16s.in_range();
        side->lengths = window_lengths(side->int16s.lengths(), side->reach);
    }
    if (!in_range) {
        for (Side* side : {&corpus_, &queries_, &mirrored_}) side->int16s = Int16Panels();
        return false;
    }
    either_lengths_ = corpus_.lengths;
    for (std::size_t i = 0; i < mirrored_.lengths.size(); ++i)
        either_lengths_[i] = std::max(either_lengths_[i], mirrored_.lengths[i]);
    const double rows = row_side().int16s.rounding();
    const double cols = std::max(corpus_.int16s.rounding(), mirrored_.int16s.rounding());
    const double unit = std::numeric_limits<float>::epsilon();
    // Of the rounded rows; of float32 products; of a window's sum and mean, in both; and of the
    // few roundings when a value, its margin and a threshold are put together.
    margin_ = (rows + cols + rows * cols) + product_error(search_.corpus.cols) +
              2 * unit * static_cast<double>(2 * halo_ + 2) + 16 * unit;
    margin_ *= 1.0001;
    return true;
}

SimilarityTiles::Products SimilarityTiles::products(const Side& row_side, std::int64_t row_block,
                                                    const Side& col_side, std::int64_t col_block,
                                                    bool upper_only, bool int16, int slot,
                                                    Scratch& scratch) const {
    constexpr std::int64_t spare = TilePooling::spare;
    const std::int64_t edge = row_side.blocks.edge(), stride = col_side.blocks.edge();
    const std::int64_t cols = col_side.blocks.places(col_block);
    TileShape shape{row_side.blocks.places(row_block), (cols + panel_rows - 1) / panel_rows,
                    panel_depth(search_.corpus.cols), upper_only};
    AlignedBuffer<float>& to = halo_ > 0 ? scratch.products : scratch.pooled[slot];
    to.reserve(edge * stride + 2 * spare);
    float* out = to.data() + spare;
    if (int16) {
        shape.depth = row_side.int16s.depth();
        const Int16Tile tile{row_side.int16s.block(row_block),
                             col_side.int16s.block(col_block),
                             shape,
                             row_side.int16s.scales(row_block),
                             col_side.int16s.scales(col_block),
                             out,
                             stride};
        (has_vnni() ? int16_tile_vnni : int16_tile)(tile);
    } else {
        const float* rows = row_side.floats.block(row_block, scratch.row_panels);
        const bool same = &row_side == &col_side && row_block == col_block;
        const float* cols_from = same ? rows : col_side.floats.block(col_block, scratch.col_panels);
        float_tile(rows, cols_from, shape, chain_length(search_.corpus.cols), out, stride);
    }
    if (halo_ == 0) return {out, stride};

    const std::int64_t pooled_stride = stride + 2 * spare;
    AlignedBuffer<float>& pooled = scratch.pooled[slot];
    pooled.reserve(edge * pooled_stride + 2 * spare);
    float* means = pooled.data() + spare;
    scratch.pooling.run({out, stride, row_side.blocks.size(row_block),
                         col_side.blocks.size(col_block), row_side.blocks.begin(row_block),
                         col_side.blocks.begin(col_block), &row_side.reach, &col_side.reach, halo_,
                         upper_only, means, pooled_stride});
    return {means, pooled_stride};
}

SimilarityTile SimilarityTiles::tile(std::int64_t row_block, std::int64_t col_block, Serves serves,
                                     bool int16, Scratch& scratch) const {
    const Side& rows = row_side();
    const bool upper_only = serves == Serves::both && symmetric_ && row_block == col_block;
    const Products found =
        products(rows, row_block, corpus_, col_block, upper_only, int16, 0, scratch);
    if (upper_only) mirror_upper(found.values, found.stride, rows.blocks.size(row_block));
    SimilarityTile tile;
    tile.rows = rows.blocks.size(row_block);
    tile.cols = corpus_.blocks.size(col_block);
    tile.first_row = rows.blocks.begin(row_block);
    tile.first_col = corpus_.blocks.begin(col_block);
    tile.stride = found.stride;
    tile.values = found.values;
    if (mirrored()) {
        const Products other =
            serves == Serves::cols
                ? products(mirrored_, row_block, corpus_, col_block, false, int16, 1, scratch)
                : products(rows, row_block, mirrored_, col_block, false, int16, 1, scratch);
        scratch.combined.reserve(tile.rows * tile.stride);
        float* greater = scratch.combined.data();
        for (std::int64_t i = 0; i < tile.rows * tile.stride; ++i)
            greater[i] = other.values[i] > found.values[i] ? other.values[i] : found.values[i];
        tile.values = greater;
        tile.plain = found.values;
    }
    if (int16) {
        const bool turned = serves == Serves::cols;
        tile.margin = static_cast<float>(margin_);
        tile.least_margin =
            2 * std::numeric_limits<float>::min() * static_cast<float>(search_.corpus.cols);
        tile.row_lengths = (turned ? either_lengths_ : rows.lengths).data() + tile.first_row;
        tile.col_lengths = (turned ? corpus_.lengths : either_lengths_).data() + tile.first_col;
    }
    return tile;
}

Reach SimilarityTiles::window(std::int64_t row, std::int64_t col) const {
    if (halo_ == 0) return {0, 0};
    const Reach a = row_side().reach[row], b = corpus_.reach[col];
    return {smaller(a.before, b.before), smaller(a.after, b.after)};
}

// Rows of X are read from memory once for many products: a chunk of columns stays in the
// third-level cache while all rows have their turn.
std::int64_t SimilarityTiles::resolve(std::span<const Unresolved> unresolved) const {
    constexpr std::int64_t chunk_bytes = 8 << 20;
    const std::int64_t chunk = std::max<std::int64_t>(chunk_bytes / (4 * search_.corpus.cols), 1);
    std::vector<std::vector<Unresolved>> chunks(
        static_cast<std::size_t>(search_.corpus.rows / chunk + 1));
    for (const Unresolved& one : unresolved)
        chunks[static_cast<std::size_t>((one.candidate->code >> 1) / chunk)].push_back(one);
    std::int64_t products = 0;
    for (std::vector<Unresolved>& all : chunks)
        for (std::size_t begin = 0, end; begin < all.size(); begin = end) {
            end = begin + 1;
            while (end < all.size() && end < begin + pair_group && all[end].row == all[begin].row)
                ++end;
            products += resolve_group({all.data() + begin, end - begin});
        }
    return products;
}

// At most pair_group candidates of one row.
std::int64_t SimilarityTiles::resolve_group(std::span<const Unresolved> group) const {
    float plain[pair_group], others[pair_group];
    std::int64_t products = group_means(corpus_, group, plain);
    if (mirrored()) products += group_means(mirrored_, group, others);
    for (std::size_t i = 0; i < group.size(); ++i) {
        const bool flipped = mirrored() && others[i] > plain[i];
        const float value = group[i].sign * (flipped ? others[i] : plain[i]);
        Candidate& candidate = *group[i].candidate;
        candidate = {value, value, candidate_code(candidate.code >> 1, flipped)};
    }
    return products;
}

std::int64_t SimilarityTiles::group_means(const Side& side, std::span<const Unresolved> group,
                                          float* means) const {
    const float* cols[pair_group];
    float products[pair_group], sums[pair_group] = {};
    Reach windows[pair_group], widest{0, 0};
    for (std::size_t i = 0; i < group.size(); ++i) {
        windows[i] = window(group[i].row, group[i].candidate->code >> 1);
        widest.before = std::max(widest.before, windows[i].before);
        widest.after = std::max(widest.after, windows[i].after);
    }
    for (std::int32_t n = -widest.before; n <= widest.after; ++n) {
        const auto inside = [&](std::size_t i) {
            return n >= -windows[i].before && n <= windows[i].after;
        };
        for (std::size_t i = 0; i < pair_group; ++i) {
            const std::size_t one = i < group.size() ? i : 0;
            cols[i] = side.rows.row((group[one].candidate->code >> 1) + (inside(one) ? n : 0));
        }
        float_pairs(row_side().rows.row(group[0].row + n), cols, search_.corpus.cols, products);
        for (std::size_t i = 0; i < group.size(); ++i)
            if (inside(i)) sums[i] += products[i];
    }
    for (std::size_t i = 0; i < group.size(); ++i)
        means[i] = halo_ == 0 ? products[i]
                              : sums[i] * window_weight(windows[i].before + windows[i].after + 1);
    return static_cast<std::int64_t>(group.size()) * (widest.before + widest.after + 1);
}

}  // namespace cliquesim
