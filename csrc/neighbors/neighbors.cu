#include <algorithm>

#include "common/cuda_check.hpp"
#include "neighbors/neighbors_cuda.hpp"

namespace cliquesim::cuda {

namespace {

constexpr std::int64_t scan_cols = 256;  // a thread each: neighbouring threads read neighbours
constexpr std::int64_t scan_rows = 32;   // per thread
constexpr int output_threads = 256;

// What `every` of the phases is on the device.
struct Block {
    template <typename Phase>
    CLIQUESIM_HOST_DEVICE void operator()(const Phase& phase) const {
#if defined(__CUDA_ARCH__)
        phase(static_cast<std::int32_t>(threadIdx.x));
        __syncthreads();
#endif
    }
};

__global__ void __launch_bounds__(scan_cols) scan_kernel(TileStep step) {
    const DeviceTile& tile = step.tile;
    for (std::int64_t b = std::int64_t{blockIdx.x} * scan_cols + threadIdx.x; b < tile.cols;
         b += std::int64_t{gridDim.x} * scan_cols)
        for (std::int64_t begin = blockIdx.y * scan_rows; begin < tile.rows;
             begin += gridDim.y * scan_rows)
            scan_column(step, b, begin, min(begin + scan_rows, tile.rows));
}

__global__ void __launch_bounds__(merge_threads) merge_kernel(TileStep step) {
    __shared__ MergeBuffer buffer;
    for (std::int64_t list = blockIdx.x; list < step.tile.lists(); list += gridDim.x)
        merge_list(step, step.ends[blockIdx.y], list, buffer, Block());
}

__global__ void __launch_bounds__(merge_threads) decision_kernel(CandidateDecision all) {
    __shared__ DecisionBuffer buffer;
    for (std::int64_t row = blockIdx.x; row < all.row_count; row += gridDim.x)
        decide_row(all, row, buffer, Block());
}

__global__ void output_kernel(CandidateLists best, float sign, NeighborOutput out) {
    const std::int64_t step = std::int64_t{gridDim.x} * output_threads;
    for (std::int64_t at = std::int64_t{blockIdx.x} * output_threads + threadIdx.x;
         at < out.rows * out.cols; at += step)
        write_neighbor(best, sign, out, at);
}

__global__ void __launch_bounds__(selection_threads) quantile_kernel(QuantileRows rows) {
    __shared__ SelectionBuffer buffer;
    for (std::int64_t a = blockIdx.x; a < rows.tile.rows; a += gridDim.x)
        row_quantiles(rows, a, buffer, Block());
}

unsigned blocks(std::int64_t items, std::int64_t per_block, std::int64_t limit) {
    return static_cast<unsigned>(std::min((items + per_block - 1) / per_block, limit));
}

cudaStream_t as_stream(std::uintptr_t stream) {
    return reinterpret_cast<cudaStream_t>(stream);
}

constexpr std::int64_t most_x = (std::int64_t{1} << 31) - 1, most_y = 65535;

}  // namespace

void launch_tile(const TileStep& step, int device, std::uintptr_t stream) {
    const DeviceTile& tile = step.tile;
    if (tile.rows == 0 || tile.cols == 0) return;
    const DeviceGuard guard(device);
    const dim3 scan(blocks(tile.cols, scan_cols, most_x), blocks(tile.rows, scan_rows, most_y));
    scan_kernel<<<scan, scan_cols, 0, as_stream(stream)>>>(step);
    check(cudaGetLastError(), "neighbors");
    const dim3 merge(blocks(tile.lists(), 1, most_x), 2);
    merge_kernel<<<merge, merge_threads, 0, as_stream(stream)>>>(step);
    check(cudaGetLastError(), "neighbors");
}

void launch_output(const CandidateLists& best, float sign, const NeighborOutput& out, int device,
                   std::uintptr_t stream) {
    if (out.rows == 0 || out.cols == 0) return;
    const DeviceGuard guard(device);
    const unsigned count = blocks(out.rows * out.cols, output_threads, most_x);
    output_kernel<<<count, output_threads, 0, as_stream(stream)>>>(best, sign, out);
    check(cudaGetLastError(), "neighbors");
}

void launch_decision(const CandidateDecision& all, int device, std::uintptr_t stream) {
    if (all.row_count == 0 || all.best.k == 0 || all.room == 0) return;
    const DeviceGuard guard(device);
    const unsigned count = blocks(all.row_count, 1, most_x);
    decision_kernel<<<count, merge_threads, 0, as_stream(stream)>>>(all);
    check(cudaGetLastError(), "neighbors");
}

void launch_quantiles(const QuantileRows& rows, int device, std::uintptr_t stream) {
    if (rows.tile.rows == 0 || rows.level_count == 0) return;
    const DeviceGuard guard(device);
    const unsigned count = blocks(rows.tile.rows, 1, most_x);
    quantile_kernel<<<count, selection_threads, 0, as_stream(stream)>>>(rows);
    check(cudaGetLastError(), "similarity quantiles");
}

}  // namespace cliquesim::cuda
