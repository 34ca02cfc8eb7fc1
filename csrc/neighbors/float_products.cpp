#include "neighbors/float_products.hpp"

#include <algorithm>
#include <limits>

#include "neighbors/micro_tiles.hpp"
#include "neighbors/product_lanes.hpp"

namespace cliquesim {

namespace {

template <int Rows, int Panels>
void micro_tile(const float* a, const float* b, std::int64_t depth, float* out,
                std::int64_t stride) {
    const std::int64_t panel = depth * panel_rows;
    for (std::int64_t begin = 0; begin < depth; begin += sum_block) {
        FloatLanes sum[Rows][Panels];
        for (auto& row : sum)
            for (auto& lanes : row) lanes = FloatLanes::zero();
        const std::int64_t end = std::min(begin + sum_block, depth) * panel_rows;
        for (std::int64_t d = begin * panel_rows; d < end; d += panel_rows) {
            FloatLanes cols[Panels];
            for (int p = 0; p < Panels; ++p) cols[p] = FloatLanes::load(b + p * panel + d);
            for (int r = 0; r < Rows; ++r) {
                const FloatLanes row = FloatLanes::broadcast(a[d + r]);
                for (int p = 0; p < Panels; ++p) sum[r][p].add_product(row, cols[p]);
            }
        }
        for (int r = 0; r < Rows; ++r)
            for (int p = 0; p < Panels; ++p) {
                float* to = out + r * stride + p * panel_rows;
                (begin == 0 ? sum[r][p] : FloatLanes::load(to) + sum[r][p]).store(to);
            }
    }
}

// Two chains at a time: a chain alone would wait for its own additions.
template <bool SameRow>
void pair_chains(const float* const* a, const float* const* b, std::int64_t dimensions,
                 float* out) {
    alignas(64) float cols[2 * sum_block * panel_rows];
    alignas(64) float rows[SameRow ? 1 : 2 * sum_block * panel_rows];
    FloatLanes total = FloatLanes::zero();
    for (std::int64_t begin = 0; begin < dimensions; begin += 2 * sum_block) {
        const std::int64_t count = std::min(2 * sum_block, dimensions - begin);
        pack_panel(b, begin, begin + count, cols);
        if constexpr (!SameRow) pack_panel(a, begin, begin + count, rows);
        FloatLanes sums[2] = {FloatLanes::zero(), FloatLanes::zero()};
        const auto step = [&](FloatLanes& sum, std::int64_t d) {
            const FloatLanes row = SameRow ? FloatLanes::broadcast(a[0][begin + d])
                                           : FloatLanes::load(rows + (SameRow ? 0 : d * panel_rows));
            sum.add_product(row, FloatLanes::load(cols + d * panel_rows));
        };
        const std::int64_t second = std::max<std::int64_t>(count - sum_block, 0);
        for (std::int64_t d = 0; d < second; ++d) {
            step(sums[0], d);
            step(sums[1], d + sum_block);
        }
        for (std::int64_t d = second; d < std::min(sum_block, count); ++d) step(sums[0], d);
        total = begin == 0 ? sums[0] : total + sums[0];
        if (second > 0) total = total + sums[1];
    }
    total.store(out);
}

}  // namespace

double product_error(std::int64_t dimensions) {
    const double terms = static_cast<double>(std::min(dimensions, sum_block) +
                                             dimensions / sum_block + 2);
    const double unit = std::numeric_limits<float>::epsilon();  // twice the rounding unit: products
    return terms * unit / (1 - terms * unit);
}

void float_tile(const float* a, const float* b, const TileShape& shape, float* out,
                std::int64_t stride) {
    for_each_micro_tile<float>(
        a, b, shape, out, stride,
        [&](const float* row, const float* cols, std::int64_t, std::int64_t, float* to) {
            micro_tile<micro_rows, micro_panels>(row, cols, shape.depth, to, stride);
        },
        [&](const float* row, const float* cols, std::int64_t, std::int64_t, float* to) {
            micro_tile<micro_rows, 1>(row, cols, shape.depth, to, stride);
        });
}

void float_pairs(const float* const* a, const float* const* b, std::int64_t dimensions,
                 float* out) {
    const bool same_row = std::all_of(a, a + panel_rows, [&](const float* p) { return p == a[0]; });
    (same_row ? pair_chains<true> : pair_chains<false>)(a, b, dimensions, out);
}

}  // namespace cliquesim
