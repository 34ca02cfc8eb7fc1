// For tests that run a CUDA kernel's threads on the host.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace cliquesim::test {

inline std::size_t size_of(std::int64_t count) {
    return static_cast<std::size_t>(count);
}

// One phase of a thread block, the last thread first.
template <typename Phase>
void every_thread(int threads, Phase&& phase) {
    for (int thread = threads - 1; thread >= 0; --thread) phase(thread);
}

// The larger of two differences; NaN is infinitely large.
inline double worse(double worst, double difference) {
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
    return difference > worst ? difference : worst;
}

}  // namespace cliquesim::test
