#include <algorithm>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "training/training_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr int block_threads = 192;  // AlexNet's channels make 576 fours a tile
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;

template <typename T>
__global__ void __launch_bounds__(block_threads)
    norm_kernel(training::ResponseNorm norm, const Four<T>* x, Four<T>* y) {
    __shared__ training::NormBuffer buffer;
    const int thread = static_cast<int>(threadIdx.x);
    training::clear_margins(norm, thread, block_threads, buffer.x);
    for (std::int64_t tile = blockIdx.x; tile < norm.tiles(); tile += gridDim.x) {
        training::load_norm_tile(norm, x, tile, thread, block_threads, buffer.x);
        __syncthreads();
        training::write_normalised(norm, y, tile, thread, block_threads, buffer);
        __syncthreads();
    }
}

template <typename T>
__global__ void __launch_bounds__(block_threads)
    norm_gradient_kernel(training::ResponseNorm norm, const Four<T>* x, const Four<T>* dy,
                         Four<T>* dx) {
    __shared__ training::NormGradientBuffer buffer;
    const int thread = static_cast<int>(threadIdx.x);
    training::clear_margins(norm, thread, block_threads, buffer.x);
    training::clear_margins(norm, thread, block_threads, buffer.shared);
    for (std::int64_t tile = blockIdx.x; tile < norm.tiles(); tile += gridDim.x) {
        training::load_norm_tile(norm, x, tile, thread, block_threads, buffer.x);
        __syncthreads();
        training::measure_shared(norm, dy, tile, thread, block_threads, buffer);
        __syncthreads();
        training::write_norm_gradient(norm, dx, tile, thread, block_threads, buffer);
        __syncthreads();
    }
}

unsigned blocks_for(const training::ResponseNorm& norm) {
    require(
        norm.channels > 0 && norm.channels % 4 == 0 && norm.channels <= training::largest_channels,
        "device='cuda' normalises a multiple of 4 channels, at most " +
            std::to_string(training::largest_channels));
    return static_cast<unsigned>(std::min(norm.tiles(), most_blocks));
}

}  // namespace

template <typename T>
void launch_response_norm(const training::ResponseNorm& norm, const Four<T>* x, Four<T>* y,
                          const Place& place) {
    const unsigned blocks = blocks_for(norm);
    if (blocks == 0) return;
    const DeviceGuard guard(place.device);
    norm_kernel<<<blocks, block_threads, 0, reinterpret_cast<cudaStream_t>(place.stream)>>>(norm, x,
                                                                                            y);
    check(cudaGetLastError(), "local response normalisation");
}

template <typename T>
void launch_response_norm_gradient(const training::ResponseNorm& norm, const Four<T>* x,
                                   const Four<T>* dy, Four<T>* dx, const Place& place) {
    const unsigned blocks = blocks_for(norm);
    if (blocks == 0) return;
    const DeviceGuard guard(place.device);
    norm_gradient_kernel<<<blocks, block_threads, 0,
                           reinterpret_cast<cudaStream_t>(place.stream)>>>(norm, x, dy, dx);
    check(cudaGetLastError(), "local response normalisation, gradient");
}

#define CLIQUESIM_INSTANTIATE(T)                                                                \
    template void launch_response_norm(const training::ResponseNorm&, const Four<T>*, Four<T>*, \
                                       const Place&);                                           \
    template void launch_response_norm_gradient(const training::ResponseNorm&, const Four<T>*,  \
                                                const Four<T>*, Four<T>*, const Place&)
CLIQUESIM_INSTANTIATE(float);
CLIQUESIM_INSTANTIATE(Bfloat16);
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim::cuda
