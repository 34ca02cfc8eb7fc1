#include "neighbors/int16_panels.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "neighbors/product_lanes.hpp"

namespace cliquesim {

namespace {
// Products of rows of these lengths, and their errors, are normal float32 numbers.
constexpr double shortest = 1e-14, longest = 1e14;
constexpr double slack = 1 + 1e-6;  // for the rounding of the bounds themselves

// The squared length of what is rounded away, to 1e-4 of itself. Sixteen sums, so that they can be
// taken side by side, and short ones, so that float32 will do.
double round_values(std::span<const float> row, float scale, std::int16_t* out) {
    constexpr std::size_t width = 16, part = 1024;
    const float inverse = 1 / scale;
    const auto round_one = [&](std::size_t d, float& sum) {
        const float q = row[d] * inverse;
        const auto nearest = static_cast<std::int32_t>(q + (q < 0 ? -0.5f : 0.5f));
        out[d] = static_cast<std::int16_t>(nearest);
        const float rest = row[d] - scale * static_cast<float>(nearest);
        sum += rest * rest;
    };
    double total = 0;
    for (std::size_t begin = 0; begin < row.size(); begin += part) {
        const std::size_t end = std::min(begin + part, row.size());
        float sums[width] = {};
        std::size_t d = begin;
        for (; d + width <= end; d += width)
            for (std::size_t l = 0; l < width; ++l) round_one(d + l, sums[l]);
        for (; d < end; ++d) round_one(d, sums[0]);
        total += static_cast<double>(std::accumulate(sums, sums + width, 0.0f));
    }
    return total;
}

}  // namespace

Int16Panels::Int16Panels(MatrixView<const float> rows, const RowBlocks& blocks, ThreadPool& pool)
    : blocks_(blocks), depth_((rows.cols + 1) / 2) {
    units_.reserve(blocks.count() * blocks.edge() * depth_);
    scales_.reserve(blocks.count() * blocks.edge());
    lengths_.reserve(rows.rows);
    std::vector<Rounded> results(static_cast<std::size_t>(blocks.count()));
    pool.parallel_for(blocks.count(), [&](std::int64_t b, int) {
        results[static_cast<std::size_t>(b)] = pack(rows, b);
    });
    for (const Rounded& result : results) {
        rounding_ = std::max(rounding_, result.rounding);
        in_range_ = in_range_ && result.in_range;
    }
}

Int16Panels::Rounded Int16Panels::pack(MatrixView<const float> rows, std::int64_t block) {
    std::int32_t* out = units_.data() + block * blocks_.edge() * depth_;
    float* scales = scales_.data() + block * blocks_.edge();
    const AlignedBuffer<std::int16_t> rounded(panel_rows * 2 * depth_);
    std::array<const std::int32_t*, panel_rows> pointers;
    Rounded worst;
    for (std::int64_t place = 0; place < blocks_.edge(); place += panel_rows) {
        for (std::int64_t r = 0; r < panel_rows; ++r) {
            std::int16_t* to = rounded.data() + r * 2 * depth_;
            pointers[static_cast<std::size_t>(r)] = reinterpret_cast<const std::int32_t*>(to);
            std::fill_n(to, 2 * depth_, std::int16_t{0});
            scales[place + r] = 0;
            const std::int64_t row = blocks_.row_at(block, place + r);
            if (row < 0) continue;
            // A row in a neighbouring block's halo is rounded there as well, to the same numbers.
            float length = 0;
            const Rounded result = round_row(rows.row_span(row), to, scales[place + r], length);
            if (row >= blocks_.begin(block) && row < blocks_.begin(block) + blocks_.size(block))
                lengths_.data()[row] = length;
            worst.rounding = std::max(worst.rounding, result.rounding);
            worst.in_range = worst.in_range && result.in_range;
        }
        if (place < blocks_.places(block))
            pack_panel(pointers.data(), 0, depth_, out + place * depth_);
    }
    return worst;
}

Int16Panels::Rounded Int16Panels::round_row(std::span<const float> row, std::int16_t* out,
                                            float& scale, float& length) {
    const Eigen::Map<const Eigen::ArrayXf> x(row.data(), static_cast<Eigen::Index>(row.size()));
    const float largest = x.abs().maxCoeff();
    const double norm = std::sqrt(x.cast<double>().square().sum());
    length = static_cast<float>(norm * slack);
    scale = 0;
    if (largest == 0.0f) return {};
    if (norm < shortest || norm > longest) return {1.0, false};
    // Rounding adds at most sqrt(D)/2 to the length of q.
    const double room = 46339 - std::sqrt(static_cast<double>(row.size())) / 2;
    scale = static_cast<float>(std::max(norm / room, static_cast<double>(largest) / 32766) * slack);
    // Each rest is wrong by the rounding of scale * q, at most the unit of float32 of x.
    const double error = std::sqrt(round_values(row, scale, out) * 1.0001);
    return {(error / norm + std::numeric_limits<float>::epsilon()) * slack, true};
}

}  // namespace cliquesim
