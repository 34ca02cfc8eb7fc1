// Launching the CUDA kernels of the neighbours; no CUDA header, for the bindings. All of them
// enqueue on `stream` (a cudaStream_t) of `device` and return, and throw std::runtime_error with
// CUDA's message when a launch fails.
#pragma once

#include <cstdint>

#include "neighbors/candidate_decision.hpp"
#include "neighbors/order_statistics.hpp"
#include "neighbors/tile_lists.hpp"

namespace cliquesim::cuda {

// The tile's similarities join the lists of its rows and columns.
void launch_tile(const TileStep& step, int device, std::uintptr_t stream);

void launch_output(const CandidateLists& best, float sign, const NeighborOutput& out, int device,
                   std::uintptr_t stream);

void launch_decision(const CandidateDecision& all, int device, std::uintptr_t stream);

void launch_quantiles(const QuantileRows& rows, int device, std::uintptr_t stream);

}  // namespace cliquesim::cuda
