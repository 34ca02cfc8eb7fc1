// Launching the CUDA kernels of temporal pooling; no CUDA header, for the bindings.
#pragma once

#include <cstdint>

#include "temporal/pool_grid.hpp"

namespace cliquesim::cuda {

// Enqueues the pooling on `stream` (a cudaStream_t) of `device` and returns; throws
// std::runtime_error with CUDA's message when the launch fails.
void launch_pooling(const PoolGrid& grid, int device, std::uintptr_t stream);

}  // namespace cliquesim::cuda
