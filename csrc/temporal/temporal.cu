#include <algorithm>

#include "common/cuda_check.hpp"
#include "temporal/temporal_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr unsigned block_cols = 64;  // neighbouring threads read neighbouring products
constexpr unsigned block_rows = 4;

__global__ void pool_kernel(PoolGrid grid) {
    pool_grid_thread(grid, std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y,
                     std::int64_t{gridDim.y} * blockDim.y,
                     std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                     std::int64_t{gridDim.x} * blockDim.x);
}

unsigned blocks(std::int64_t threads, unsigned per_block, std::int64_t limit) {
    return static_cast<unsigned>(std::min((threads + per_block - 1) / per_block, limit));
}

}  // namespace

void launch_pooling(const PoolGrid& grid, int device, std::uintptr_t stream) {
    if (grid.rows == 0 || grid.cols == 0) return;
    const DeviceGuard guard(device);
    const dim3 block(block_cols, block_rows);
    const dim3 blocks_in_grid(blocks(grid.cols, block_cols, 65535),
                              blocks(grid.rows, block_rows, 65535));
    pool_kernel<<<blocks_in_grid, block, 0, reinterpret_cast<cudaStream_t>(stream)>>>(grid);
    check(cudaGetLastError(), "temporal pooling");
}

}  // namespace cliquesim::cuda
