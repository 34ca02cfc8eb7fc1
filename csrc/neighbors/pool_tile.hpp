// Eq. (9) on a tile: the mean along its diagonals, O(p) additions per similarity and one reading of
// the tile.
#pragma once

#include <cstdint>
#include <vector>

#include "temporal/sequences.hpp"

namespace cliquesim {

// pooled = (sum of a window in the order of its frames) * window_weight(frames in it).
inline float window_weight(std::int32_t frames) {
    return 1.0f / static_cast<float>(frames);
}

class TilePooling {
  public:
    // Similarity (a, b) of the block is products[(halo + a) * stride + halo + b]; `spare` floats
    // before and after the tile may be read. Writes out[a * out_stride + b], and up to `spare`
    // floats before and after the columns.
    struct Request {
        const float* products;
        std::int64_t stride;
        std::int64_t rows, cols;
        std::int64_t first_row, first_col;
        const SequenceReach* row_reach;
        const SequenceReach* col_reach;
        std::int64_t halo;
        bool upper_only;
        float* out;
        std::int64_t out_stride;
    };
    static constexpr std::int64_t width = 16;
    static constexpr std::int64_t spare = width;

    void run(const Request& request);

  private:
    void read_columns(const Request& request);
    void pool_diagonals(const Request& request, std::int64_t diagonal);
    void pool_whole(const Request& request, std::int64_t at, float* out) const;
    void pool_part(const Request& request, std::int64_t at, std::int64_t a, std::int64_t b,
                   float* out) const;

    // Per column, `width` more at both ends: reach, and whether `width` columns from it on reach
    // the whole halo.
    std::vector<std::int32_t> before_, after_;
    std::vector<char> whole_;
    std::vector<float> lanes_;
};

}  // namespace cliquesim
