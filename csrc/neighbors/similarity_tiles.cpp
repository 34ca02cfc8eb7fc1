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

}  // namespace

SimilarityTiles::SimilarityTiles(const NeighborSearch& search, const TilePlan& plan,
                                 ThreadPool& pool)
    : search_(search), symmetric_(search.queries.data == nullptr) {
    if (!search.correlation) {
        require_finite_products(search.corpus, "X", pool);
        require_finite_products(search.queries, "queries", pool);
        require_finite_products(search.mirrored, "mirrored", pool);
    }
    find_windows();
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

void SimilarityTiles::find_windows() {
    if (search_.pool_radius == 0) return;
    corpus_.reach = search_.sequences.empty()
                        ? sequence_reach(search_.groups, search_.pool_radius, "groups")
                        : sequence_reach(search_.sequences, search_.pool_radius, "sequences");
    queries_.reach = sequence_reach(search_.query_groups, search_.pool_radius, "query_groups");
    halo_ = symmetric_ ? corpus_.reach.radius()
                       : std::min(corpus_.reach.radius(), queries_.reach.radius());
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
                    search_.corpus.cols, upper_only};
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
        const float* cols_from =
            same ? rows : col_side.floats.block(col_block, scratch.col_panels);
        float_tile(rows, cols_from, shape, out, stride);
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
    Products found =
        products(rows, row_block, corpus_, col_block, upper_only, int16, 0, scratch);
    SimilarityTile tile;
    tile.rows = rows.blocks.size(row_block);
    tile.cols = corpus_.blocks.size(col_block);
    tile.first_row = rows.blocks.begin(row_block);
    tile.first_col = corpus_.blocks.begin(col_block);
    tile.stride = found.stride;
    tile.values = found.values;
    tile.upper_only = upper_only;
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
        tile.least_margin = 2 * std::numeric_limits<float>::min() *
                            static_cast<float>(search_.corpus.cols);
        tile.row_lengths = (turned ? either_lengths_ : rows.lengths).data() + tile.first_row;
        tile.col_lengths = (turned ? corpus_.lengths : either_lengths_).data() + tile.first_col;
    }
    return tile;
}

std::int64_t SimilarityTiles::resolve(std::int64_t row, std::span<Candidate> candidates,
                                      float sign) const {
    const Side& rows = row_side();
    const Reach none{0, 0};
    std::vector<const float*> left, right;
    std::vector<float> values;
    const auto window = [&](std::int64_t col) {
        const Reach a = halo_ > 0 ? rows.reach[row] : none;
        const Reach b = halo_ > 0 ? corpus_.reach[col] : none;
        return Reach{smaller(a.before, b.before), smaller(a.after, b.after)};
    };
    for (const Candidate& candidate : candidates) {
        if (candidate.exact()) continue;
        const std::int64_t col = candidate.code >> 1;
        const Reach reach = window(col);
        for (const Side* side : {&corpus_, &mirrored_}) {
            if (side->rows.data == nullptr) continue;
            for (std::int32_t n = -reach.before; n <= reach.after; ++n) {
                left.push_back(rows.rows.row(row + n));
                right.push_back(side->rows.row(col + n));
            }
        }
    }
    const std::size_t count = left.size();
    const std::size_t padded = (count + panel_rows - 1) / panel_rows * panel_rows;
    left.resize(padded, count > 0 ? left[0] : nullptr);
    right.resize(padded, count > 0 ? right[0] : nullptr);
    values.resize(padded);
    for (std::size_t at = 0; at < padded; at += panel_rows)
        float_pairs(left.data() + at, right.data() + at, search_.corpus.cols, values.data() + at);

    const float* next = values.data();
    const auto mean = [&](Reach reach) {
        const std::int32_t frames = reach.before + reach.after + 1;
        if (halo_ == 0) return *next++;
        float sum = 0;
        for (std::int32_t n = 0; n < frames; ++n) sum += *next++;
        return sum * window_weight(frames);
    };
    for (Candidate& candidate : candidates) {
        if (candidate.exact()) continue;
        const std::int64_t col = candidate.code >> 1;
        float value = mean(window(col));
        bool flipped = false;
        if (mirrored()) {
            const float other = mean(window(col));
            flipped = other > value;
            if (flipped) value = other;
        }
        candidate = {sign * value, sign * value, candidate_code(col, flipped)};
    }
    return static_cast<std::int64_t>(count);
}

}  // namespace cliquesim
