// Eq. (9), the arithmetic alone: s'_kl = mean over n of s_(k+n)(l+n), n in -p..p, with the window
// shrunk jointly at the ends of both sequences. Shared by the CPU kernels, the CUDA kernel and the
// test that runs the CUDA kernel's per-thread code on the host.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

// Frames of the same sequence before and after a frame, both capped at the radius p.
struct Reach {
    std::int32_t before;
    std::int32_t after;
};

CLIQUESIM_HOST_DEVICE inline std::int32_t smaller(std::int32_t a, std::int32_t b) {
    return a < b ? a : b;
}

// One pooled similarity. `center` points at s_kl in a matrix of `stride` elements per row.
CLIQUESIM_HOST_DEVICE inline float pooled_element(const float* center, std::int64_t stride,
                                                  Reach row, Reach col) {
    const std::int32_t before = smaller(row.before, col.before);
    const std::int32_t after = smaller(row.after, col.after);
    float sum = 0;
    for (std::int32_t n = -before; n <= after; ++n) sum += center[n * (stride + 1)];
    return sum / static_cast<float>(before + after + 1);
}

// pooled_element for `count` neighbouring columns, in an order that vectorises; the same sums in
// the same order. In each row that `row` reaches, all `count` shifted elements are read, those
// outside a column's sequence too: they must lie within the matrix.
inline void pooled_row(const float* center, std::int64_t stride, Reach row,
                       const std::int32_t* before, const std::int32_t* after, std::int64_t count,
                       float* out) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = 0;
    for (std::int32_t n = -row.before; n <= row.after; ++n) {
        const float* shifted = center + n * (stride + 1);
        const std::int32_t* reach = n < 0 ? before : after;
        const std::int32_t needed = n < 0 ? -n : n;
        for (std::int64_t j = 0; j < count; ++j) {
            const float value = shifted[j];
            out[j] += reach[j] >= needed ? value : 0.0f;
        }
    }
    for (std::int64_t j = 0; j < count; ++j)
        out[j] /=
            static_cast<float>(smaller(row.before, before[j]) + smaller(row.after, after[j]) + 1);
}

}  // namespace cliquesim
