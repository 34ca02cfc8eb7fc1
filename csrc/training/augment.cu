#include <algorithm>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "training/training_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr int block_threads = 256;
constexpr std::int64_t thread_pixels = 4;
constexpr std::int64_t most_rows = 65535;  // of a grid
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;

template <bool covered>
__global__ void __launch_bounds__(training::mean_threads) mean_kernel(training::AugmentGrid grid) {
    __shared__ training::MeanBuffer buffer;
    const int thread = static_cast<int>(threadIdx.x);
    for (std::int64_t index = blockIdx.x; index < grid.count; index += gridDim.x) {
        if (covered && !training::needs_erase_mean(grid, index)) continue;
        training::add_pixels<covered>(grid, index, thread, training::mean_threads, buffer);
        __syncthreads();
        for (int half = training::mean_threads / 2; half > 0; half /= 2) {
            training::fold_sums(thread, half, buffer);
            __syncthreads();
        }
        training::write_means<covered>(grid, index, thread, buffer);
        __syncthreads();
    }
}

template <bool replaces, typename T>
__global__ void __launch_bounds__(block_threads)
    augment_kernel(training::AugmentGrid grid, T* out) {
    training::augment_thread<replaces>(grid, out, blockIdx.y, gridDim.y,
                                       blockIdx.x * blockDim.x + threadIdx.x,
                                       gridDim.x * blockDim.x);
}

__global__ void __launch_bounds__(block_threads) gather_kernel(training::GatherGrid grid) {
    training::gather_thread(grid, blockIdx.y, gridDim.y,
                            std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                            std::int64_t{gridDim.x} * blockDim.x);
}

// Blocks along the items of a frame, and over frames.
dim3 blocks_for(std::int64_t items, std::int64_t frames) {
    const std::int64_t along = (items + block_threads - 1) / block_threads;
    return {static_cast<unsigned>(std::min(along, most_blocks)),
            static_cast<unsigned>(std::min(frames, most_rows))};
}

template <bool covered>
void launch_means(const training::AugmentGrid& grid, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>(std::min(grid.count, most_blocks));
    mean_kernel<covered><<<blocks, training::mean_threads, 0, stream>>>(grid);
    check(cudaGetLastError(), "augmentation: means");
}

}  // namespace

template <typename T>
void launch_augment(const training::AugmentGrid& grid, T* out, const Place& place) {
    require(std::int64_t{grid.height} * grid.width < (std::int64_t{1} << 29),
            "frames are too large");
    require(grid.stride >= std::int64_t{3} * grid.height * grid.width + training::frame_padding &&
                grid.stride % 4 == 0,
            "rows of frames are too short");
    if (grid.count == 0 || grid.pixels() == 0) return;
    const DeviceGuard guard(place.device);
    const auto stream = reinterpret_cast<cudaStream_t>(place.stream);
    if (grid.recolours) launch_means<false>(grid, stream);
    if (grid.erases) launch_means<true>(grid, stream);
    const std::int64_t pieces = std::int64_t{grid.height} * grid.row_pieces();
    const std::int64_t each = grid.row_pieces() == grid.width ? thread_pixels : 1;
    const dim3 blocks = blocks_for((pieces + each - 1) / each, grid.count);
    if (grid.replaces())
        augment_kernel<true><<<blocks, block_threads, 0, stream>>>(grid, out);
    else
        augment_kernel<false><<<blocks, block_threads, 0, stream>>>(grid, out);
    check(cudaGetLastError(), "augmentation");
}

void launch_gather(const training::GatherGrid& grid, const Place& place) {
    if (grid.count == 0 || grid.stride == 0) return;
    const DeviceGuard guard(place.device);
    gather_kernel<<<blocks_for(grid.stride, grid.count), block_threads, 0,
                    reinterpret_cast<cudaStream_t>(place.stream)>>>(grid);
    check(cudaGetLastError(), "gathering frames");
}

template void launch_augment(const training::AugmentGrid&, float*, const Place&);
template void launch_augment(const training::AugmentGrid&, Bfloat16*, const Place&);

}  // namespace cliquesim::cuda
