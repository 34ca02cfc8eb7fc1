#include "neighbors/float_products.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

#include "neighbors/micro_tiles.hpp"
#include "neighbors/product_lanes.hpp"

namespace cliquesim {

namespace {

template <int Rows, int Panels>
void micro_tile(const float* a, const float* b, std::int64_t depth, std::int64_t chain, float* out,
                std::int64_t stride) {
    const std::int64_t panel = depth * panel_rows;
    for (std::int64_t begin = 0; begin < depth; begin += chain) {
        FloatLanes sum[Rows][Panels];
        for (auto& row : sum)
            for (auto& lanes : row) lanes = FloatLanes::zero();
        const std::int64_t end = (begin + chain) * panel_rows;
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

// A row's 16 numbers from d on; zeros beyond its end.
FloatLanes load_part(const float* row, std::int64_t d, std::int64_t dimensions) {
    if (d + panel_rows <= dimensions) return FloatLanes::load(row + d);
    alignas(64) float part[panel_rows] = {};
    std::copy(row + d, row + dimensions, part);
    return FloatLanes::load(part);
}

void pairs_of_lanes(const float* row, const float* const* cols, std::int64_t dimensions,
                    float* out) {
    FloatLanes sums[pair_group];
    for (FloatLanes& sum : sums) sum = FloatLanes::zero();
    std::int64_t d = 0;
    for (; d + panel_rows <= dimensions; d += panel_rows) {
        const FloatLanes part = FloatLanes::load(row + d);
        for (int i = 0; i < pair_group; ++i)
            sums[i].add_product(part, FloatLanes::load(cols[i] + d));
    }
    if (d < dimensions) {
        const FloatLanes part = load_part(row, d, dimensions);
        for (int i = 0; i < pair_group; ++i)
            sums[i].add_product(part, load_part(cols[i], d, dimensions));
    }
    alignas(64) float chains[pair_group][panel_rows];
    for (int i = 0; i < pair_group; ++i) {
        sums[i].store(chains[i]);
        out[i] = chains[i][0];
    }
    for (int l = 1; l < panel_rows; ++l)
        for (int i = 0; i < pair_group; ++i) out[i] += chains[i][l];
}

// The pairs are the lanes: a chain of a tile's register block, number by number.
void pairs_of_one_chain(const float* row, const float* const* cols, std::int64_t dimensions,
                        float* out) {
    FloatLanes sum = FloatLanes::zero();
    alignas(64) float parts[panel_rows] = {};
    for (std::int64_t d = 0; d < dimensions; ++d) {
        for (int i = 0; i < pair_group; ++i) parts[i] = cols[i][d];
        sum.add_product(FloatLanes::broadcast(row[d]), FloatLanes::load(parts));
    }
    sum.store(parts);
    std::copy(parts, parts + pair_group, out);
}

}  // namespace

double multiply_add_rate(double seconds) {
    using Clock = std::chrono::steady_clock;
    constexpr int chains = micro_panels * micro_rows;  // as many as a tile has
    constexpr std::int64_t steps = 1 << 16;
    FloatLanes sums[chains];
    for (FloatLanes& sum : sums) sum = FloatLanes::broadcast(1.0f);
    const FloatLanes factor = FloatLanes::broadcast(-1e-6f);
    double best = 0, kept = 0;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    do {
        const auto begin = Clock::now();
        for (std::int64_t i = 0; i < steps; ++i)
            for (FloatLanes& sum : sums) sum.add_product(sum, factor);
        const std::chrono::duration<double> took = Clock::now() - begin;
        alignas(64) float out[panel_rows];
        for (FloatLanes& sum : sums) {
            sum.store(out);
            kept += static_cast<double>(out[0]);
            sum = FloatLanes::broadcast(1.0f);
        }
        best = std::max(best, 2.0 * chains * steps * panel_rows / took.count());
    } while (Clock::now() < end);
    return kept == 0 ? 0 : best;
}

double product_error(std::int64_t dimensions) {
    const double terms =
        static_cast<double>(chain_length(dimensions) + chain_count(dimensions) + 2);
    const double unit = std::numeric_limits<float>::epsilon();  // twice the rounding unit: products
    return terms * unit / (1 - terms * unit);
}

void pack_chains(const float* const* rows, std::int64_t dimensions, float* panel) {
    if (chain_count(dimensions) == 1) {
        pack_panel(rows, 0, dimensions, panel);
        return;
    }
    const std::int64_t length = chain_length(dimensions);
    alignas(64) float square[panel_rows * panel_rows];
    for (std::int64_t t = 0; t < length; ++t) {
        const std::int64_t begin = t * panel_rows;
        const std::int64_t end = std::min(begin + panel_rows, dimensions);
        std::fill(square + (end - begin) * panel_rows, square + panel_rows * panel_rows, 0.0f);
        pack_panel(rows, begin, end, square);
        for (std::int64_t l = 0; l < panel_rows; ++l)
            FloatLanes::load(square + l * panel_rows).store(panel + (l * length + t) * panel_rows);
    }
}

void float_tile(const float* a, const float* b, const TileShape& shape, std::int64_t chain,
                float* out, std::int64_t stride) {
    for_each_micro_tile<float>(
        a, b, shape, out, stride,
        [&](const float* row, const float* cols, std::int64_t, std::int64_t, float* to) {
            micro_tile<micro_rows, micro_panels>(row, cols, shape.depth, chain, to, stride);
        },
        [&](const float* row, const float* cols, std::int64_t, std::int64_t, float* to) {
            micro_tile<micro_rows, 1>(row, cols, shape.depth, chain, to, stride);
        });
}

void float_pairs(const float* row, const float* const* cols, std::int64_t dimensions, float* out) {
    (chain_count(dimensions) == 1 ? pairs_of_one_chain : pairs_of_lanes)(row, cols, dimensions,
                                                                         out);
}

}  // namespace cliquesim
