// Complete linkage on a CUDA device; no CUDA header, for the bindings.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "linkage/linkage.hpp"

namespace cliquesim::cuda {

// Device memory of a symmetric square, its diagonal ignored, without NaN and -inf. It is destroyed.
struct SquareInput {
    std::uintptr_t distances;
    std::int64_t n;
    std::int64_t stride;       // elements from one row to the next
    std::uintptr_t workspace;  // linkage_workspace<T>(n) bytes of device memory, aligned to 256
};

template <typename T>
std::int64_t linkage_workspace(std::int64_t n);

// Works on `stream` (a cudaStream_t) of `device` and waits for it. The merges and their order are
// those of complete_linkage (resident.hpp), bit for bit. report(fraction) is called after every
// round and may throw to stop. Throws std::runtime_error with CUDA's message.
template <typename T>
std::vector<Merge> linkage_of_square(const SquareInput& input, int device, std::uintptr_t stream,
                                     const std::function<void(double)>& report);

}  // namespace cliquesim::cuda
