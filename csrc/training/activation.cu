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

template <Norm norm, bool pools, int wide, typename T>
__global__ void __launch_bounds__(activation_threads)
    activation_kernel(Activation activation, ActivationForward<T> tensors) {
    training::activate_lanes<norm, pools, wide>(
        activation, tensors, blockIdx.x, gridDim.x,
        activation.lanes_of(static_cast<std::int32_t>(threadIdx.x)));
}

// Of a multiprocessor, as registers allow with hardly a spill.
constexpr int gradient_blocks(int wide) {
    return wide == 8 ? 3 : 2;
}

template <Norm norm, bool pools, int wide, typename T>
__global__ void __launch_bounds__(activation_threads, gradient_blocks(wide))
    activation_gradient_kernel(Activation activation, ActivationBackward<T> tensors) {
    __shared__ training::BiasBuffer<wide> buffer;
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    training::gradient_lanes<norm, pools>(activation, tensors, blockIdx.x, gridDim.x,
                                          activation.lanes_of(thread), buffer);
    if (tensors.bias_sums == nullptr) return;
    __syncthreads();
    training::add_bias_sums(activation, blockIdx.x, thread, buffer, tensors.bias_sums);
}

__global__ void __launch_bounds__(training::total_threads)
    bias_total_kernel(training::BiasTotal total) {
    __shared__ training::TotalBuffer buffer;
    const auto block = static_cast<std::int32_t>(blockIdx.x);
    const auto thread = static_cast<int>(threadIdx.x);
    training::add_rows(total, block, thread, buffer);
    __syncthreads();
    training::write_total(total, block, thread, buffer);
}

void check_channels(const Activation& activation) {
    require(activation.fits(), "device='cuda' takes a multiple of 8 channels, at most " +
                                   std::to_string(8 * activation.together()));
    require(activation.rectifies || !activation.pools, "pooling takes what is rectified");
}

template <int wide>
using Wide = std::integral_constant<int, wide>;

// Calls `launch` with three constants: which norm, whether to pool, and a lane's channels.
template <typename Launch>
void choose(const Activation& activation, Launch&& launch) {
    const auto with = [&](auto norm, auto wide) {
        activation.pools ? launch(norm, std::true_type{}, wide)
                         : launch(norm, std::false_type{}, wide);
    };
    const auto normalised = [&](auto norm) {
        activation.lane_channels() == 12 ? with(norm, Wide<12>{}) : with(norm, Wide<8>{});
    };
    switch (activation.norm()) {
        case Norm::none:
            return with(std::integral_constant<Norm, Norm::none>{}, Wide<8>{});
        case Norm::three_quarters:
            return normalised(std::integral_constant<Norm, Norm::three_quarters>{});
        case Norm::any:
            return normalised(std::integral_constant<Norm, Norm::any>{});
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
    choose(activation, [&](auto norm, auto pools, auto wide) {
        activation_kernel<norm.value, pools.value, wide.value>
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
    choose(activation, [&](auto norm, auto pools, auto wide) {
        activation_gradient_kernel<norm.value, pools.value, wide.value>
            <<<blocks, activation_threads, 0, stream>>>(activation, tensors);
    });
    check(cudaGetLastError(), "activation, gradient");
}

void launch_bias_total(const training::BiasTotal& total, const Place& place) {
    if (total.channels == 0) return;
    const DeviceGuard guard(place.device);
    bias_total_kernel<<<static_cast<unsigned>(total.blocks()), training::total_threads, 0,
                        reinterpret_cast<cudaStream_t>(place.stream)>>>(total);
    check(cudaGetLastError(), "gradient of a bias");
}

#define CLIQUESIM_INSTANTIATE(T)                                                                   \
    template void launch_activation(const Activation&, const ActivationForward<T>&, const Place&); \
    template void launch_activation_gradient(const Activation&, const ActivationBackward<T>&,      \
                                             const Place&)
CLIQUESIM_INSTANTIATE(float);
CLIQUESIM_INSTANTIATE(Bfloat16);
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim::cuda
