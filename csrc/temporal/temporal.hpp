// Local temporal pooling of similarities, Sect. 2.5, Eq. (9).
#pragma once

#include <cstdint>
#include <span>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

struct PooledSimilarityRequest {
    MatrixView<const float> features;        // (N, D)
    MatrixView<const float> col_features;    // (N, D); the mirrored frames, say
    std::span<const std::int64_t> rows;      // frames whose features are taken from `features`
    std::span<const std::int64_t> cols;      // and from `col_features`
    std::span<const std::int64_t> sequence;  // per frame
    std::int64_t radius = 3;
    bool correlation = false;
};

// out: (rows, cols). GEMM over the frames of all windows, then the mean along diagonals.
void pooled_similarity(const PooledSimilarityRequest& request, MatrixView<float> out,
                       const Context& context);

}  // namespace cliquesim
