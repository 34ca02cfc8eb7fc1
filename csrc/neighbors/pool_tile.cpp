#include "neighbors/pool_tile.hpp"

#include <algorithm>

namespace cliquesim {

void TilePooling::run(const Request& request) {
    read_columns(request);
    const std::int64_t first = request.upper_only ? 1 : 1 - request.rows;
    for (std::int64_t diagonal = first; diagonal < request.cols; diagonal += width)
        pool_diagonals(request, diagonal);
}

void TilePooling::read_columns(const Request& request) {
    const auto size = static_cast<std::size_t>(request.cols + 2 * width);
    const auto halo = static_cast<std::int32_t>(request.halo);
    before_.assign(size, halo);
    after_.assign(size, halo);
    whole_.assign(size, 0);
    for (std::int64_t b = 0; b < request.cols; ++b) {
        const Reach reach = (*request.col_reach)[request.first_col + b];
        before_[static_cast<std::size_t>(b + width)] = smaller(reach.before, halo);
        after_[static_cast<std::size_t>(b + width)] = smaller(reach.after, halo);
    }
    std::int64_t run = 0;
    for (std::size_t b = size; b-- > 0;) {
        run = before_[b] == halo && after_[b] == halo ? run + 1 : 0;
        whole_[b] = run >= width;
    }
}

// Column a + diagonal + l of every row a, l in [0, width): windows run down the lanes.
void TilePooling::pool_diagonals(const Request& request, std::int64_t diagonal) {
    const std::int64_t begin = std::max<std::int64_t>(0, 1 - width - diagonal);
    const std::int64_t end = std::min(request.rows, request.cols - diagonal);
    if (begin >= end) return;
    const std::int64_t halo = request.halo;
    lanes_.resize(static_cast<std::size_t>((end - begin + 2 * halo) * width));
    const float* from = request.products + begin * request.stride + begin + diagonal;
    for (std::int64_t r = 0; r < end - begin + 2 * halo; ++r, from += request.stride + 1)
        for (std::int64_t l = 0; l < width; ++l)
            lanes_[static_cast<std::size_t>(r * width + l)] = from[l];
    for (std::int64_t a = begin; a < end; ++a) {
        const Reach row = (*request.row_reach)[request.first_row + a];
        const std::int64_t b = a + diagonal;
        float* out = request.out + a * request.out_stride + b;
        const bool whole = row.before >= halo && row.after >= halo &&
                           whole_[static_cast<std::size_t>(b + width)] != 0;
        if (whole)
            pool_whole(request, a - begin, out);
        else
            pool_part(request, a - begin, a, b, out);
    }
}

void TilePooling::pool_whole(const Request& request, std::int64_t at, float* out) const {
    const float* lanes = lanes_.data() + at * width;
    float sum[width];
    for (std::int64_t l = 0; l < width; ++l) sum[l] = lanes[l];
    for (std::int64_t n = 1; n <= 2 * request.halo; ++n)
        for (std::int64_t l = 0; l < width; ++l) sum[l] += lanes[n * width + l];
    const float weight = window_weight(static_cast<std::int32_t>(2 * request.halo + 1));
    for (std::int64_t l = 0; l < width; ++l) out[l] = sum[l] * weight;
}

void TilePooling::pool_part(const Request& request, std::int64_t at, std::int64_t a, std::int64_t b,
                            float* out) const {
    const auto halo = static_cast<std::int32_t>(request.halo);
    const Reach row = (*request.row_reach)[request.first_row + a];
    const std::int32_t row_before = smaller(row.before, halo), row_after = smaller(row.after, halo);
    const float* centre = lanes_.data() + (at + halo) * width;
    const std::int32_t* before = before_.data() + b + width;
    const std::int32_t* after = after_.data() + b + width;
    float sum[width] = {};
    for (std::int32_t n = -row_before; n <= row_after; ++n) {
        const std::int32_t* reach = n < 0 ? before : after;
        const std::int32_t needed = n < 0 ? -n : n;
        for (std::int64_t l = 0; l < width; ++l)
            sum[l] += reach[l] >= needed ? centre[n * width + l] : 0.0f;
    }
    for (std::int64_t l = 0; l < width; ++l)
        out[l] = sum[l] *
                 window_weight(smaller(row_before, before[l]) + smaller(row_after, after[l]) + 1);
}

}  // namespace cliquesim
