// Launching the CUDA kernels of training; no CUDA header, for the bindings. Each is enqueued on
// `stream` (a cudaStream_t) of `device`, also while it is captured, and throws std::runtime_error
// with CUDA's message when the launch fails.
#pragma once

#include <cstdint>

#include "training/adagrad.hpp"
#include "training/augment_grid.hpp"
#include "training/gradient_tile.hpp"
#include "training/response_norm.hpp"

namespace cliquesim::cuda {

struct Place {
    int device;
    std::uintptr_t stream;
};

// `out` is Bfloat16 or float, count x height x width x 3.
template <typename T>
void launch_augment(const training::AugmentGrid& grid, T* out, const Place& place);

void launch_gather(const training::GatherGrid& grid, const Place& place);

// The same out; `grid` needs no counts of tiles.
template <typename T>
void launch_gradient_channels(training::GradientGrid grid, T* out, const Place& place);

template <typename T>
void launch_response_norm(const training::ResponseNorm& norm, const Four<T>* x, Four<T>* y,
                          const Place& place);

template <typename T>
void launch_response_norm_gradient(const training::ResponseNorm& norm, const Four<T>* x,
                                   const Four<T>* dy, Four<T>* dx, const Place& place);

void launch_adagrad(const training::AdagradLaunch& launch, const Place& place);

}  // namespace cliquesim::cuda
