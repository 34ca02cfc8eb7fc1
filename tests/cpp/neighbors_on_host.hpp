// The CUDA kernels of the neighbours on the host, thread by thread in a random order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "neighbors/tile_lists.hpp"

namespace cliquesim::test {

inline std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

// Small whole numbers: every product is exact in float32, and many are equal.
inline std::vector<float> whole_numbers(std::mt19937& random, std::int64_t count, int most) {
    std::vector<float> values(size(count));
    for (float& value : values)
        value = static_cast<float>(static_cast<int>(random() % unsigned(2 * most + 1)) - most);
    return values;
}

// A block whose threads take turns in a random order between two synchronisations.
struct HostBlock {
    std::int32_t threads;
    std::mt19937& random;

    template <typename Phase>
    void operator()(const Phase& phase) const {
        std::vector<std::int32_t> order(size(threads));
        for (std::int32_t t = 0; t < threads; ++t) order[size(t)] = t;
        std::shuffle(order.begin(), order.end(), random);
        for (const std::int32_t thread : order) phase(thread);
    }
};

template <typename Buffer>
std::unique_ptr<Buffer> uninitialised() {
    auto buffer = std::make_unique<Buffer>();
    std::memset(static_cast<void*>(buffer.get()), 0xA5, sizeof(Buffer));
    return buffer;
}

// One end's lists, and room for the fresh candidates of a tile.
struct HostEnd {
    HostEnd(std::int64_t rows, std::int64_t k_, float sign_, std::int64_t lists)
        : k(k_),
          sign(sign_),
          keys(size(rows * k)),
          bounds(size(rows), k > 0 ? -infinite_score : infinite_score),
          fresh(size(lists * fresh_room)),
          counts(size(lists)) {}

    SearchEnd view() {
        return {{keys.data(), bounds.data(), k}, sign, fresh.data(), counts.data()};
    }

    std::int64_t k;
    float sign;
    std::vector<std::uint64_t> keys;
    std::vector<float> bounds;
    std::vector<std::uint64_t> fresh;
    std::vector<std::int32_t> counts;
};

// What neighbors.cu launches, on the host.
inline void run_step(const TileStep& step, std::mt19937& random) {
    constexpr std::int64_t scan_rows = 13;
    const DeviceTile& tile = step.tile;
    std::vector<std::int64_t> threads(size((tile.rows + scan_rows - 1) / scan_rows * tile.cols));
    for (std::size_t i = 0; i < threads.size(); ++i) threads[i] = static_cast<std::int64_t>(i);
    std::shuffle(threads.begin(), threads.end(), random);
    for (const std::int64_t thread : threads) {
        const std::int64_t begin = thread / tile.cols * scan_rows;
        scan_column(step, thread % tile.cols, begin, std::min(begin + scan_rows, tile.rows));
    }
    const auto buffer = uninitialised<MergeBuffer>();
    for (const SearchEnd& end : step.ends)
        for (std::int64_t list = 0; list < tile.lists(); ++list)
            merge_list(step, end, list, *buffer, HostBlock{merge_threads, random});
}

}  // namespace cliquesim::test
