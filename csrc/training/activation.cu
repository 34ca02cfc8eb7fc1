#include <algorithm>
#include <type_traits>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "training/training_cuda.hpp"

namespace cliquesim::cuda {

namespace {

using training::Activation;
using training::activation_threads;
using training::ActivationBackward;
using training::ActivationForward;
using training::Norm;

constexpr std::int64_t most_blocks = 1 << 20;

template <Norm norm, bool pools, typename T>
__global__ void __launch_bounds__(activation_threads)
    activation_kernel(Activation activation, ActivationForward<T> tensors) {
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    const std::int32_t octets = activation.octets(), runs = activation.block_runs();
    if (thread / octets >= runs) return;
    training::activate_thread<norm, pools>(activation, tensors,
                                           std::int64_t{blockIdx.x} * runs + thread / octets,
                                           std::int64_t{gridDim.x} * runs, thread % octets);
}

template <Norm norm, bool pools, typename T>
__global__ void __launch_bounds__(activation_threads, 2)
    activation_gradient_kernel(Activation activation, ActivationBackward<T> tensors) {
    __shared__ training::BiasBuffer buffer;
    const auto thread = static_cast<int>(threadIdx.x);
    training::gradient_thread<norm, pools>(activation, tensors, blockIdx.x, gridDim.x, thread,
                                           buffer);
    if (tensors.bias_sums == nullptr) return;
    __syncthreads();
    training::add_bias_sums(activation, blockIdx.x, thread, buffer, tensors.bias_sums);
}

void check_channels(const Activation& activation) {
    require(activation.channels > 0 && activation.channels % 8 == 0 &&
                activation.channels <= training::activation_channels,
            "device='cuda' takes a multiple of 8 channels, at most " +
                std::to_string(training::activation_channels));
    require(activation.rectifies || !activation.pools, "pooling takes what is rectified");
}

// Calls `launch` with two constants: which norm, and whether to pool.
template <typename Launch>
void choose(const Activation& activation, Launch&& launch) {
    const auto with = [&](auto norm) {
        activation.pools ? launch(norm, std::true_type{}) : launch(norm, std::false_type{});
    };
    switch (activation.norm()) {
        case Norm::none:
            return with(std::integral_constant<Norm, Norm::none>{});
        case Norm::three_quarters:
            return with(std::integral_constant<Norm, Norm::three_quarters>{});
        case Norm::any:
            return with(std::integral_constant<Norm, Norm::any>{});
    }
}

unsigned blocks_for(const Activation& activation, std::int64_t runs) {
    check_channels(activation);
    const std::int64_t each = activation.block_runs();
    return static_cast<unsigned>(std::min((runs + each - 1) / each, most_blocks));
}

}  // namespace

std::int64_t activation_gradient_blocks(const Activation& activation) {
    return blocks_for(activation, activation.backward_runs());
}

template <typename T>
void launch_activation(const Activation& activation, const ActivationForward<T>& tensors,
                       const Place& place) {
    const unsigned blocks = blocks_for(activation, activation.forward_runs());
    if (blocks == 0) return;
    const DeviceGuard guard(place.device);
    const auto stream = reinterpret_cast<cudaStream_t>(place.stream);
    choose(activation, [&](auto norm, auto pools) {
        activation_kernel<norm.value, pools.value>
            <<<blocks, activation_threads, 0, stream>>>(activation, tensors);
    });
    check(cudaGetLastError(), "activation");
}

template <typename T>
void launch_activation_gradient(const Activation& activation, const ActivationBackward<T>& tensors,
                                const Place& place) {
    const unsigned blocks = blocks_for(activation, activation.backward_runs());
    if (blocks == 0) return;
    const DeviceGuard guard(place.device);
    const auto stream = reinterpret_cast<cudaStream_t>(place.stream);
    choose(activation, [&](auto norm, auto pools) {
        activation_gradient_kernel<norm.value, pools.value>
            <<<blocks, activation_threads, 0, stream>>>(activation, tensors);
    });
    check(cudaGetLastError(), "activation, gradient");
}

#define CLIQUESIM_INSTANTIATE(T)                                                                   \
    template void launch_activation(const Activation&, const ActivationForward<T>&, const Place&); \
    template void launch_activation_gradient(const Activation&, const ActivationBackward<T>&,      \
                                             const Place&)
CLIQUESIM_INSTANTIATE(float);
CLIQUESIM_INSTANTIATE(Bfloat16);
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim::cuda
