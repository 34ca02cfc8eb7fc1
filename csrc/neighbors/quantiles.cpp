#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/errors.hpp"
#include "neighbors/neighbors.hpp"
#include "neighbors/plan.hpp"
#include "neighbors/similarity_tiles.hpp"

namespace cliquesim {

namespace {

// Linear between the two values beside the place, as NumPy does; `probabilities` ascend.
void quantiles_of(std::span<float> values, std::span<const double> probabilities,
                  std::span<float> out) {
    std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
    if (values.empty()) return;
    auto from = values.begin();
    for (std::size_t q = 0; q < probabilities.size(); ++q) {
        const double place = probabilities[q] * static_cast<double>(values.size() - 1);
        const auto below = values.begin() + static_cast<std::int64_t>(place);
        std::nth_element(from, below, values.end());
        from = below;
        const double share = place - std::floor(place);
        const float next = share > 0 ? *std::min_element(below + 1, values.end()) : *below;
        out[q] = static_cast<float>((1 - share) * static_cast<double>(*below) +
                                    share * static_cast<double>(next));
    }
}

}  // namespace

void similarity_quantiles(const NeighborSearch& search, std::span<const double> probabilities,
                          MatrixView<float> out, const Context& context) {
    require(std::is_sorted(probabilities.begin(), probabilities.end()),
            "the probabilities of quantiles must ascend");
    for (const double q : probabilities) require(q >= 0 && q <= 1, "quantiles must be in [0, 1]");
    ThreadPool pool(context);
    const SearchPlan plan = plan_quantiles(search, pool.size());
    const SimilarityTiles tiles(search, plan.tiles, pool);
    const Exclusion excluded = exclusion_of(search);
    const RowBlocks &rows = tiles.row_blocks(), &cols = tiles.col_blocks();
    const std::int64_t n = search.corpus.rows;
    const AlignedBuffer<float> all(rows.edge() * n);
    std::vector<SimilarityTiles::Scratch> scratch(static_cast<std::size_t>(pool.size()));
    const auto read_tile = [&](std::int64_t block, std::int64_t col_block, int worker) {
        const SimilarityTile tile = tiles.tile(block, col_block, SimilarityTiles::Serves::rows,
                                               false, scratch[static_cast<std::size_t>(worker)]);
        for (std::int64_t a = 0; a < tile.rows; ++a)
            std::copy_n(tile.values + a * tile.stride, tile.cols,
                        all.data() + a * n + tile.first_col);
    };
    const auto read_quantiles = [&](std::int64_t block, std::int64_t a) {
        const std::int64_t row = rows.begin(block) + a;
        float* values = all.data() + a * n;
        std::int64_t allowed = 0;
        for (std::int64_t col = 0; col < n; ++col)
            if (!excluded(row, col)) values[allowed++] = values[col];
        quantiles_of({values, static_cast<std::size_t>(allowed)}, probabilities, out.row_span(row));
    };
    for (std::int64_t block = 0; block < rows.count(); ++block) {
        const double count = static_cast<double>(rows.count());
        pool.parallel_for(
            cols.count(), [&](std::int64_t c, int worker) { read_tile(block, c, worker); }, 1,
            static_cast<double>(block) / count, static_cast<double>(block + 1) / count);
        pool.parallel_for(
            rows.size(block), [&](std::int64_t a, int) { read_quantiles(block, a); }, 4);
    }
}

}  // namespace cliquesim
