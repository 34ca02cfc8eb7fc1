// Launching the CUDA kernels of the batches; no CUDA header, for the bindings.
#pragma once

#include <cstdint>

#include "batches/kick_round.hpp"
#include "batches/row_sums.hpp"

namespace cliquesim::cuda {

// Both enqueue their work on `stream` (a cudaStream_t) of `device` and return; they throw
// std::runtime_error with CUDA's message when a launch fails.
void launch_row_sums(const RowSums& sums, int device, std::uintptr_t stream);

// Device memory of the kicks. State 0 is the selection, the others are copies for a kick each.
struct KickWorkspace {
    KickState states;     // count + 1 of them
    double* scratch;      // count + 1 times kick_scratch_size
    KickMove* trails;     // count times capacity
    KickResult* results;  // count
    std::int32_t capacity;
};

// The kicks first .. first + count - 1 of state 0, from which `seed` makes their random numbers,
// and what is taken over of them.
void launch_kick_round(const KickTables& tables, const KickWorkspace& workspace, std::uint64_t seed,
                       std::int64_t first, std::int64_t count, int device, std::uintptr_t stream);

}  // namespace cliquesim::cuda
