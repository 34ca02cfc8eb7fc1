#include <algorithm>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "training/training_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr int block_threads = 256;
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;

template <typename T>
__global__ void __launch_bounds__(block_threads)
    gradient_kernel(training::GradientGrid grid, T* out) {
    __shared__ training::GradientBuffer buffer;
    const int thread = static_cast<int>(threadIdx.x);
    for (std::int64_t index = blockIdx.x; index < grid.tiles(); index += gridDim.x) {
        const training::GradientTile tile = training::gradient_tile_at(grid, index);
        training::measure_squares(grid, tile, thread, block_threads, buffer);
        __syncthreads();
        training::sum_rows(grid, thread, block_threads, buffer);
        __syncthreads();
        training::write_gradients(grid, tile, out, thread, block_threads, buffer);
        __syncthreads();
    }
}

}  // namespace

template <typename T>
void launch_gradient_channels(training::GradientGrid grid, T* out, const Place& place) {
    require(grid.reach >= 0 && grid.reach <= training::largest_reach,
            "device='cuda' takes windows of at most " +
                std::to_string(2 * training::largest_reach + 1) + " pixels");
    require(grid.floor > 0, "floor must be above 0");
    require(std::int64_t{grid.height} * grid.width < (std::int64_t{1} << 29),
            "frames are too large");
    grid = training::with_tiles(grid);
    if (grid.tiles() == 0) return;
    const DeviceGuard guard(place.device);
    const auto blocks = static_cast<unsigned>(std::min(grid.tiles(), most_blocks));
    gradient_kernel<<<blocks, block_threads, 0, reinterpret_cast<cudaStream_t>(place.stream)>>>(
        grid, out);
    check(cudaGetLastError(), "gradients");
}

template void launch_gradient_channels(training::GradientGrid, float*, const Place&);
template void launch_gradient_channels(training::GradientGrid, Bfloat16*, const Place&);

}  // namespace cliquesim::cuda
