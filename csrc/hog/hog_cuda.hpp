// Launching the CUDA kernel of HOG; no CUDA header, for the bindings.
#pragma once

#include <cstdint>

#include "hog/hog.hpp"

namespace cliquesim::cuda {

// Enqueues describe() for frames and features in the memory of `device` on `stream` (a
// cudaStream_t) and returns; throws std::runtime_error with CUDA's message when the launch fails.
// Sides and cells of 2^28 pixels and more are refused.
void launch_hog(const hog::Frames& frames, std::int64_t cell_size, float* features, int device,
                std::uintptr_t stream);

}  // namespace cliquesim::cuda
