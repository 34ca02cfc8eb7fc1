// Products of rows that were rounded to integers. The products are exact, so a similarity differs
// from the scaled one by what rounding took from its two rows: with x' = scale q,
//     |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|  (Cauchy-Schwarz).
#pragma once

#include "common/host_device.hpp"

namespace cliquesim {

struct RoundedRow {
    float scale;
    float error;   // at least |x - x'|, and a share of |x| for what float32 sums are off by
    float length;  // at least |x| and |x'|
};

// More than float32 loses below its smallest normal number, for up to 2^20 dimensions.
inline constexpr float underflow_margin = 0x1p-126f;

CLIQUESIM_HOST_DEVICE inline float scaled_product(const RoundedRow& a, const RoundedRow& b,
                                                  float product) {
    return product * a.scale * b.scale;
}

CLIQUESIM_HOST_DEVICE inline float product_margin(const RoundedRow& a, const RoundedRow& b) {
    return a.error * b.length + a.length * b.error + underflow_margin;
}

}  // namespace cliquesim
