#include <algorithm>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "hog/hog_cuda.hpp"
#include "hog/tile.hpp"

namespace cliquesim::cuda {

namespace {

constexpr int block_threads = 256;
static_assert(sizeof(hog::TileBuffer) <= 64 * 1024, "more than some devices have");
constexpr std::int64_t longest_side = std::int64_t{1} << 28;
constexpr std::int64_t most_blocks = (std::int64_t{1} << 31) - 1;

template <int channels>
__global__ void __launch_bounds__(block_threads, 4) hog_kernel(hog::TileGrid grid) {
    extern __shared__ float4 shared[];  // aligned for every member
    auto& buffer = *reinterpret_cast<hog::TileBuffer*>(shared);
    const int thread = static_cast<int>(threadIdx.x);
    const std::int64_t tiles = grid.tiles();
    for (std::int64_t index = blockIdx.x; index < tiles; index += gridDim.x) {
        const hog::Tile tile = hog::tile_at(grid, index);
        const std::int32_t last = hog::last_row(grid, tile);
        hog::clear_sums(thread, block_threads, buffer);
        for (hog::Band band = hog::first_band(grid, tile); band.y < last;
             band = hog::next_band(grid, tile, band)) {
            hog::measure_gradients<channels>(grid, tile, band, thread, block_threads, buffer);
            __syncthreads();
            hog::gather_votes(grid, tile, band, thread, block_threads, buffer);
            __syncthreads();
        }
        hog::join_halves(tile, thread, block_threads, buffer);
        __syncthreads();
        hog::measure_norms(tile, thread, block_threads, buffer);
        __syncthreads();
        hog::write_features(grid, tile, thread, block_threads, buffer);
        __syncthreads();
    }
}

template <int channels>
void launch(const hog::TileGrid& grid, cudaStream_t stream) {
    constexpr int bytes = sizeof(hog::TileBuffer);
    check(cudaFuncSetAttribute(hog_kernel<channels>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               bytes),
          "hog: shared memory");
    const auto blocks = static_cast<unsigned>(std::min(grid.tiles(), most_blocks));
    hog_kernel<channels><<<blocks, block_threads, bytes, stream>>>(grid);
    check(cudaGetLastError(), "hog");
}

}  // namespace

void launch_hog(const hog::Frames& frames, std::int64_t cell_size, float* features, int device,
                std::uintptr_t stream) {
    require(std::max({frames.height, frames.width, cell_size}) < longest_side,
            "device='cuda' takes frames and cells of fewer than 2^28 pixels a side");
    if (frames.count == 0) return;
    const hog::TileGrid grid = hog::make_tile_grid(frames, cell_size, features);
    const DeviceGuard guard(device);
    if (frames.channels == 3)
        launch<3>(grid, reinterpret_cast<cudaStream_t>(stream));
    else
        launch<1>(grid, reinterpret_cast<cudaStream_t>(stream));
}

}  // namespace cliquesim::cuda
