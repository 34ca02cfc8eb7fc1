#include <algorithm>

#include "batches/batches_cuda.hpp"
#include "common/cuda_check.hpp"

namespace cliquesim::cuda {

namespace {

constexpr unsigned block_threads = 256;
constexpr std::int64_t max_blocks = 1 << 16;
constexpr std::size_t max_shared = 40 << 10;  // that every device has, beside the candidates

__global__ void row_sums_kernel(RowSums sums) {
    row_sums_thread(sums, std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                    std::int64_t{gridDim.x} * blockDim.x);
}

// The phases of a kick by the threads of a block.
struct DeviceBlock {
    KickCandidate* candidates;

    __host__ __device__ std::int64_t size() const { return block_threads; }

    template <typename Body>
    __host__ __device__ void all(const Body& body) {
#ifdef __CUDA_ARCH__
        body(std::int64_t{threadIdx.x}, std::int64_t{block_threads});
        __syncthreads();
#else
        (void)body;
#endif
    }
};

// Scratch memory is shared memory where it fits.
template <typename Body>
__device__ void with_block(const KickTables& tables, double* scratch, bool in_shared,
                           const Body& body) {
    __shared__ KickCandidate candidates[block_threads];
    __shared__ KickControl control;
    extern __shared__ double shared[];
    DeviceBlock block{candidates};
    body(block, control, kick_scratch(tables, in_shared ? shared : scratch));
}

__global__ void __launch_bounds__(block_threads)
    kick_kernel(KickTables tables, KickWorkspace workspace, bool in_shared, std::uint64_t seed,
                std::int64_t first) {
    const std::int64_t number = blockIdx.x;
    double* scratch = workspace.scratch + (number + 1) * kick_scratch_size(tables);
    with_block(tables, scratch, in_shared,
               [&](DeviceBlock& block, KickControl& control, const KickScratch& own) {
                   kick_block(block, tables, workspace.states,
                              kick_state(tables, workspace.states, number + 1), own, control,
                              workspace.trails + number * workspace.capacity, workspace.capacity,
                              seed, first + number, workspace.results[number]);
               });
}

__global__ void __launch_bounds__(block_threads)
    merge_kernel(KickTables tables, KickWorkspace workspace, bool in_shared, std::int64_t count) {
    with_block(tables, workspace.scratch, in_shared,
               [&](DeviceBlock& block, KickControl& control, const KickScratch& own) {
                   merge_block(block, tables, workspace.states, own, control, workspace.trails,
                               workspace.capacity, workspace.results, count);
               });
}

}  // namespace

void launch_row_sums(const RowSums& sums, int device, std::uintptr_t stream) {
    const std::int64_t entries = sums.rows * sums.count;
    if (entries == 0) return;
    const DeviceGuard guard(device);
    const std::int64_t blocks = (entries + block_threads - 1) / block_threads;
    row_sums_kernel<<<static_cast<unsigned>(std::min(blocks, max_blocks)), block_threads, 0,
                      reinterpret_cast<cudaStream_t>(stream)>>>(sums);
    check(cudaGetLastError(), "batches");
}

void launch_kick_round(const KickTables& tables, const KickWorkspace& workspace, std::uint64_t seed,
                       std::int64_t first, std::int64_t count, int device, std::uintptr_t stream) {
    const DeviceGuard guard(device);
    const auto size = static_cast<std::size_t>(kick_scratch_size(tables)) * sizeof(double);
    const bool in_shared = size <= max_shared;
    const std::size_t bytes = in_shared ? size : 0;
    const auto on = reinterpret_cast<cudaStream_t>(stream);
    kick_kernel<<<static_cast<unsigned>(count), block_threads, bytes, on>>>(tables, workspace,
                                                                            in_shared, seed, first);
    check(cudaGetLastError(), "batches");
    merge_kernel<<<1, block_threads, bytes, on>>>(tables, workspace, in_shared, count);
    check(cudaGetLastError(), "batches");
}

}  // namespace cliquesim::cuda
