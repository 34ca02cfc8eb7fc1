// Launching the CUDA kernels of training; no CUDA header, for the bindings. Each is enqueued on
// `stream` (a cudaStream_t) of `device`, also while it is captured, and throws std::runtime_error
// with CUDA's message when the launch fails.
#pragma once

#include <cstdint>

#include "training/activation_forward.hpp"
#include "training/activation_gradient.hpp"
#include "training/adagrad.hpp"
#include "training/augment_grid.hpp"
#include "training/gradient_tile.hpp"

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
void launch_activation(const training::Activation& activation,
                       const training::ActivationForward<T>& tensors, const Place& place);

// `bias_sums` has a row per block: this many.
std::int64_t activation_gradient_blocks(const training::Activation& activation);

template <typename T>
void launch_activation_gradient(const training::Activation& activation,
                                const training::ActivationBackward<T>& tensors, const Place& place);

// Adds those rows up.
void launch_bias_total(const training::BiasTotal& total, const Place& place);

void launch_adagrad(const training::AdagradLaunch& launch, const Place& place);

}  // namespace cliquesim::cuda
