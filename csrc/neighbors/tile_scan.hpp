// Which similarities of a tile may be among the most or least similar of its rows and columns.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "neighbors/candidates.hpp"
#include "neighbors/product_lanes.hpp"

namespace cliquesim {

// Similarities within (bottom, top) cannot change a row's lists. Copies of the tables' thresholds:
// an old copy lets more candidates pass, never fewer.
struct Bounds {
    std::vector<float> top, bottom;

    void close(std::int64_t size) {  // nothing passes
        top.assign(static_cast<std::size_t>(size), std::numeric_limits<float>::infinity());
        bottom.assign(static_cast<std::size_t>(size), -std::numeric_limits<float>::infinity());
    }
};

struct FoundCandidate {
    std::int32_t row;  // within its block
    Candidate candidate;
};

struct Found {
    std::vector<FoundCandidate> top, bottom;

    std::size_t size() const { return top.size() + bottom.size(); }
    void clear() {
        top.clear();
        bottom.clear();
    }
};

// Similarities of rows [0, rows) to columns [0, cols). The true ones lie within
//   margin * row_lengths[r] * col_lengths[c] + least_margin
// of the values; margin 0 says that the values are the similarities, and needs no lengths.
struct SimilarityTile {
    const float* values = nullptr;
    std::int64_t stride = 0;
    std::int64_t rows = 0, cols = 0;
    std::int64_t first_row = 0, first_col = 0;  // their indices
    const float* plain = nullptr;  // `stride` too; where a value is greater, it is the mirror's
    float margin = 0;
    float least_margin = 0;
    const float* row_lengths = nullptr;
    const float* col_lengths = nullptr;

    float margin_at(std::int64_t a, std::int64_t b) const {
        return margin == 0.0f ? 0.0f : margin * row_lengths[a] * col_lengths[b] + least_margin;
    }
};

// Bit l is set where values[l] >= top or values[l] <= bottom.
inline std::uint32_t outside(const float* values, float top, float bottom) {
#if defined(__AVX512F__)
    const __m512 v = _mm512_loadu_ps(values);
    const auto above = _mm512_cmp_ps_mask(v, _mm512_set1_ps(top), _CMP_GE_OQ);
    const auto below = _mm512_cmp_ps_mask(v, _mm512_set1_ps(bottom), _CMP_LE_OQ);
    return static_cast<std::uint32_t>(above | below);
#else
    std::uint32_t mask = 0;
    for (int l = 0; l < 16; ++l)
        mask |= static_cast<std::uint32_t>(values[l] >= top || values[l] <= bottom) << l;
    return mask;
#endif
}

class TileScan {
  public:
    Bounds row_bounds, col_bounds;
    Found row_found, col_found;

    // Rows whose lists are not full yet get bounds from the tile itself, which must be exact: its k
    // best are as good a bound as any k.
    template <typename Excluded>
    void seed(const SimilarityTile& tile, std::int64_t k, std::int64_t n_bottom,
              const Excluded& excluded) {
        for (std::int64_t a = 0; a < tile.rows; ++a) {
            float& top = row_bounds.top[static_cast<std::size_t>(a)];
            float& bottom = row_bounds.bottom[static_cast<std::size_t>(a)];
            const bool open_top = top == -std::numeric_limits<float>::infinity();
            const bool open_bottom = bottom == std::numeric_limits<float>::infinity();
            if (!open_top && !open_bottom) continue;
            allowed_.clear();
            for (std::int64_t b = 0; b < tile.cols; ++b)
                if (!excluded(tile.first_row + a, tile.first_col + b))
                    allowed_.push_back(tile.values[a * tile.stride + b]);
            if (open_top) top = best(k, std::greater<>(), top);
            if (open_bottom) bottom = best(n_bottom, std::less<>(), bottom);
        }
    }

    // Collects candidates, `excluded(row index, column index)` pairs left out. False once more than
    // `most` are found: the lists are of no use then.
    template <typename Excluded>
    bool run(const SimilarityTile& tile, std::size_t most, const Excluded& excluded) {
        summarise_columns(tile);
        for (std::int64_t a = 0; a < tile.rows; ++a) {
            const float top = row_bounds.top[static_cast<std::size_t>(a)];
            const float bottom = row_bounds.bottom[static_cast<std::size_t>(a)];
            const float scaled = tile.margin == 0.0f ? 0.0f : tile.margin * tile.row_lengths[a];
            for (std::int64_t s = 0; s * width < tile.cols; ++s) {
                const Strip& strip = strips_[static_cast<std::size_t>(s)];
                const float margin = scaled * strip.length + tile.least_margin;
                std::uint32_t mask = outside(tile.values + a * tile.stride + s * width,
                                             std::min(top, strip.top) - margin,
                                             std::max(bottom, strip.bottom) + margin);
                if (mask == 0) [[likely]]
                    continue;
                if (tile.cols - s * width < width) mask &= (1u << (tile.cols - s * width)) - 1;
                for (; mask != 0; mask &= mask - 1)
                    collect(tile, a, s * width + std::countr_zero(mask), excluded);
            }
            if (row_found.size() + col_found.size() > most) return false;
        }
        return true;
    }

  private:
    static constexpr std::int64_t width = 16;

    // What holds for all of `width` columns.
    struct Strip {
        float top, bottom, length;
    };

    template <typename Better>
    float best(std::int64_t place, const Better& better, float otherwise) {
        if (place > static_cast<std::int64_t>(allowed_.size())) return otherwise;
        const auto at = allowed_.begin() + (place - 1);
        std::nth_element(allowed_.begin(), at, allowed_.end(), better);
        return *at;
    }

    void summarise_columns(const SimilarityTile& tile) {
        strips_.clear();
        for (std::int64_t b = 0; b < tile.cols; b += width) {
            Strip strip{std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity(), 0};
            for (std::int64_t c = b; c < std::min(b + width, tile.cols); ++c) {
                strip.top = std::min(strip.top, col_bounds.top[static_cast<std::size_t>(c)]);
                strip.bottom =
                    std::max(strip.bottom, col_bounds.bottom[static_cast<std::size_t>(c)]);
                if (tile.margin != 0.0f) strip.length = std::max(strip.length, tile.col_lengths[c]);
            }
            strips_.push_back(strip);
        }
    }

    template <typename Excluded>
    void collect(const SimilarityTile& tile, std::int64_t a, std::int64_t b,
                 const Excluded& excluded) {
        const auto r = static_cast<std::size_t>(a);
        const auto c = static_cast<std::size_t>(b);
        const float value = tile.values[a * tile.stride + b];
        const float margin = tile.margin_at(a, b);
        const float lower = value - margin, upper = value + margin;
        const bool row_top = upper >= row_bounds.top[r];
        const bool row_bottom = lower <= row_bounds.bottom[r];
        const bool col_top = upper >= col_bounds.top[c];
        const bool col_bottom = lower <= col_bounds.bottom[c];
        if (!(row_top || row_bottom || col_top || col_bottom)) return;
        const std::int64_t row = tile.first_row + a, col = tile.first_col + b;
        if (excluded(row, col)) return;
        const bool flipped =
            tile.plain != nullptr && margin == 0.0f && value > tile.plain[a * tile.stride + b];
        const auto ra = static_cast<std::int32_t>(a), cb = static_cast<std::int32_t>(b);
        const std::uint32_t row_code = candidate_code(row, flipped);
        const std::uint32_t col_code = candidate_code(col, flipped);
        if (row_top) row_found.top.push_back({ra, {lower, upper, col_code}});
        if (row_bottom) row_found.bottom.push_back({ra, {-upper, -lower, col_code}});
        if (col_top) col_found.top.push_back({cb, {lower, upper, row_code}});
        if (col_bottom) col_found.bottom.push_back({cb, {-upper, -lower, row_code}});
    }

    std::vector<Strip> strips_;
    std::vector<float> allowed_;  // of a row, in seed
};

}  // namespace cliquesim
