#include <algorithm>

#include "common/cuda_check.hpp"
#include "training/training_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr int block_threads = 256;
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;

__global__ void __launch_bounds__(block_threads)
    adagrad_kernel(const __grid_constant__ training::AdagradLaunch launch) {
    for (std::int64_t chunk = blockIdx.x; chunk < launch.chunks(); chunk += gridDim.x)
        training::adagrad_thread(launch, chunk, static_cast<int>(threadIdx.x), block_threads);
}

}  // namespace

void launch_adagrad(const training::AdagradLaunch& launch, const Place& place) {
    if (launch.chunks() == 0) return;
    const DeviceGuard guard(place.device);
    const auto blocks = static_cast<unsigned>(std::min(launch.chunks(), most_blocks));
    adagrad_kernel<<<blocks, block_threads, 0, reinterpret_cast<cudaStream_t>(place.stream)>>>(
        launch);
    check(cudaGetLastError(), "AdaGrad");
}

}  // namespace cliquesim::cuda
