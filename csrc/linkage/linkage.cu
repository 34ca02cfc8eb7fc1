#include <cooperative_groups.h>

#include <algorithm>
#include <limits>

#include "common/cuda_check.hpp"
#include "common/errors.hpp"
#include "linkage/linkage_cuda.hpp"
#include "linkage/square_driver.hpp"

namespace cliquesim::cuda {

namespace {

constexpr std::int32_t block_threads = 256, chain_threads = 1024;
constexpr std::int32_t chain_columns = 4096;  // for every block of the chain, at least
constexpr std::int32_t merge_columns = 1024;  // that a block merges at a time
constexpr std::int32_t chunk_columns = 2048;  // that a block compacts at a time

template <typename T>
__global__ void pairs_kernel(SquareClusters<T> s, std::int32_t merged) {
    const std::int32_t c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < s.width) find_pair(s, c, merged);
}

// Neighbouring blocks merge neighbouring pairs in the same columns: what they write to a row of
// theirs lies close together.
template <typename T>
__global__ void merge_kernel(SquareClusters<T> s) {
    const std::int64_t pairs = s.counts->pairs;
    const std::int64_t chunks = (s.width + merge_columns - 1) / merge_columns;
    for (std::int64_t item = blockIdx.x; item < pairs * chunks; item += gridDim.x) {
        const auto begin = static_cast<std::int32_t>(item / pairs) * merge_columns;
        const std::int32_t end = min(s.width, begin + merge_columns);
        const std::int32_t a = s.pairs[item % pairs], b = s.nearest[a];
#pragma unroll 4
        for (std::int32_t j = begin + threadIdx.x; j < end; j += blockDim.x)
            merge_column(s, a, b, j);
    }
}

template <typename T>
__global__ void follow_kernel(SquareClusters<T> s) {
    const std::int32_t c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c < s.width) follow_neighbor(s, c);
}

// The nearest of all threads' candidates goes to shared[0].
template <typename T>
__device__ void reduce(Candidate<T>* shared, Candidate<T> candidate) {
    shared[threadIdx.x] = candidate;
    for (std::int32_t half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        halve_candidates(shared, threadIdx.x, half);
    }
    __syncthreads();
}

// All clusters, or those that lost their neighbour.
template <typename T>
__global__ void nearest_kernel(SquareClusters<T> s, bool all) {
    __shared__ Candidate<T> shared[block_threads];
    const std::int32_t count = all ? s.width : s.counts->lost;
    for (std::int32_t i = blockIdx.x; i < count; i += gridDim.x) {
        const std::int32_t c = all ? i : s.lost[i];
        reduce(shared, scan_columns<T>(s, c, threadIdx.x, blockDim.x));
        if (threadIdx.x == 0) set_neighbor(s, c, shared[0]);
        __syncthreads();
    }
}

template <typename T>
__global__ void compact_kernel(SquareClusters<T> s, std::int32_t count) {
    __shared__ T chunk[chunk_columns];
    for (std::int32_t i = blockIdx.x; i < count; i += gridDim.x) {
        const std::int32_t c = s.kept[i];
        for (std::int32_t begin = 0; begin < count; begin += chunk_columns) {
            const std::int32_t end = min(count, begin + chunk_columns);
            gather_chunk<T>(s, c, begin, end, chunk, threadIdx.x, blockDim.x);
            __syncthreads();
            put_chunk<T>(s, c, begin, end, chunk, threadIdx.x, blockDim.x);
            __syncthreads();
        }
    }
}

// Of one block or, launched cooperatively, of many.
template <bool many>
__device__ void sync_all() {
    if constexpr (many)
        cooperative_groups::this_grid().sync();
    else
        __syncthreads();
}

template <bool many, typename T>
__global__ void __launch_bounds__(chain_threads)
    chain_kernel(SquareClusters<T> s, std::int32_t until, std::int32_t steps) {
    __shared__ Candidate<T> shared[chain_threads];
    const std::int32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
    const std::int32_t threads = gridDim.x * blockDim.x;
    if (thread == 0) find_top(s);
    sync_all<many>();
    for (std::int32_t step = 0; step < steps && s.state->alive_count > until; ++step) {
        reduce(shared, scan_columns<T>(s, s.state->top, thread, threads));
        if constexpr (many) {
            if (threadIdx.x == 0) s.candidates[blockIdx.x] = shared[0];
            sync_all<many>();
            if (blockIdx.x == 0) reduce(shared, block_candidate(s, threadIdx.x, gridDim.x));
        }
        if (thread == 0) advance_chain(s, shared[0]);
        sync_all<many>();
        const std::int32_t a = s.state->a, b = s.state->b;
        if (b < 0) continue;
        for (std::int32_t j = thread; j < s.width; j += threads) merge_column(s, a, b, j);
        sync_all<many>();
    }
}

class CudaPhases {
  public:
    CudaPhases(int device, cudaStream_t stream) : stream_(stream) {
        int processors = 0;
        check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), what);
        many_blocks_ = 32 * processors;
        int cooperative = 0;
        check(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device), what);
        chain_blocks_ = cooperative ? std::min(processors, max_chain_blocks) : 1;
    }

    template <typename T>
    void find_all(const SquareClusters<T>& s) {
        nearest_kernel<<<at_most_many(s.width), block_threads, 0, stream_>>>(s, true);
        check(cudaGetLastError(), what);
    }

    template <typename T>
    RoundCounts round(const SquareClusters<T>& s, std::int32_t merged) {
        check(cudaMemsetAsync(s.counts, 0, sizeof(RoundCounts), stream_), what);
        const unsigned each = blocks(s.width);
        pairs_kernel<<<each, block_threads, 0, stream_>>>(s, merged);
        merge_kernel<<<many_blocks_, block_threads, 0, stream_>>>(s);
        follow_kernel<<<each, block_threads, 0, stream_>>>(s);
        nearest_kernel<<<at_most_many(s.width), block_threads, 0, stream_>>>(s, false);
        check(cudaGetLastError(), what);
        RoundCounts counts;
        read(&counts, s.counts, 1);
        return counts;
    }

    template <typename T>
    void compact_rows(const SquareClusters<T>& s, std::int32_t count) {
        compact_kernel<<<at_most_many(count), block_threads, 0, stream_>>>(s, count);
        check(cudaGetLastError(), what);
    }

    template <typename T>
    void clear_merged_into(const SquareClusters<T>& s) {
        const auto bytes = static_cast<std::size_t>(s.width) * sizeof(std::int32_t);
        check(cudaMemsetAsync(s.merged_into, 0xff, bytes, stream_), what);
    }

    template <typename T>
    void chain(const SquareClusters<T>& s, std::int32_t until, std::int32_t steps) {
        const std::int32_t count = std::min(chain_blocks_, s.width / chain_columns);
        if (count > 1) {
            SquareClusters<T> clusters = s;
            void* arguments[] = {&clusters, &until, &steps};
            const auto* kernel = reinterpret_cast<const void*>(&chain_kernel<true, T>);
            check(cudaLaunchCooperativeKernel(kernel, dim3(static_cast<unsigned>(count)),
                                              dim3(chain_threads), arguments, 0, stream_),
                  what);
        } else {
            chain_kernel<false><<<1, chain_threads, 0, stream_>>>(s, until, steps);
        }
        check(cudaGetLastError(), what);
    }

    template <typename V>
    void read(V* to, const V* from, std::size_t count) {
        copy(to, from, count * sizeof(V), cudaMemcpyDeviceToHost);
    }

    template <typename V>
    void write(V* to, const V* from, std::size_t count) {
        copy(to, from, count * sizeof(V), cudaMemcpyHostToDevice);
    }

  private:
    static constexpr const char* what = "complete linkage";

    static unsigned blocks(std::int32_t threads) {
        return static_cast<unsigned>((threads + block_threads - 1) / block_threads);
    }
    unsigned at_most_many(std::int32_t count) const {
        return static_cast<unsigned>(std::min(count, many_blocks_));
    }

    void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
        check(cudaMemcpyAsync(to, from, bytes, kind, stream_), what);
        check(cudaStreamSynchronize(stream_), what);
    }

    cudaStream_t stream_;
    std::int32_t many_blocks_ = 0, chain_blocks_ = 1;
};

// Hands out pieces of the workspace; from address 0 it measures how much that is.
class Pieces {
  public:
    explicit Pieces(std::uintptr_t address) : address_(address) {}

    template <typename V>
    void take(V*& pointer, std::int64_t count) {
        pointer = reinterpret_cast<V*>(address_);
        const auto bytes = static_cast<std::uintptr_t>(count) * sizeof(V);
        address_ += (bytes + 255) / 256 * 256;
    }
    std::uintptr_t address() const { return address_; }

  private:
    std::uintptr_t address_;
};

template <typename T>
std::uintptr_t place(SquareClusters<T>& s, std::uintptr_t workspace, std::int64_t n) {
    Pieces pieces(workspace);
    for (auto* array :
         {&s.row_of, &s.nearest, &s.merged_into, &s.pairs, &s.lost, &s.kept, &s.chain})
        pieces.take(*array, n);
    pieces.take(s.alive, n);
    pieces.take(s.nearest_distance, n);
    pieces.take(s.merges, n);
    pieces.take(s.candidates, max_chain_blocks);
    pieces.take(s.counts, 1);
    pieces.take(s.state, 1);
    return pieces.address();
}

}  // namespace

template <typename T>
std::int64_t linkage_workspace(std::int64_t n) {
    SquareClusters<T> clusters;
    return static_cast<std::int64_t>(place(clusters, 0, n));
}

template <typename T>
std::vector<Merge> linkage_of_square(const SquareInput& input, int device, std::uintptr_t stream,
                                     const std::function<void(double)>& report) {
    require(input.n >= 1 && input.n < std::numeric_limits<std::int32_t>::max() / 2,
            "the number of observations is out of range");
    const DeviceGuard guard(device);
    SquareClusters<T> clusters;
    place(clusters, input.workspace, input.n);
    clusters.distances = reinterpret_cast<T*>(input.distances);
    clusters.stride = input.stride;
    clusters.width = static_cast<std::int32_t>(input.n);
    CudaPhases phases(device, reinterpret_cast<cudaStream_t>(stream));
    return SquareDriver(clusters, phases, report).run();
}

#define CLIQUESIM_INSTANTIATE(T)                                                              \
    template std::int64_t linkage_workspace<T>(std::int64_t);                                 \
    template std::vector<Merge> linkage_of_square<T>(const SquareInput&, int, std::uintptr_t, \
                                                     const std::function<void(double)>&);
CLIQUESIM_INSTANTIATE(float)
CLIQUESIM_INSTANTIATE(double)
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim::cuda
