#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "grid_on_host.hpp"
#include "hog/hog.hpp"
#include "hog/tile.hpp"

using namespace cliquesim;

namespace {

constexpr float untouched = -1;

struct Case {
    std::int64_t height, width;
    int channels;
    std::int64_t cell_size;
};

// Waves with noise above a flat region.
std::vector<std::uint8_t> make_frames(const Case& one, std::int64_t count) {
    std::mt19937 random(static_cast<unsigned>(one.height * 31 + one.width));
    std::vector<std::uint8_t> frames(
        static_cast<std::size_t>(count * one.height * one.width * one.channels));
    std::size_t next = 0;
    for (std::int64_t n = 0; n < count; ++n)
        for (std::int64_t y = 0; y < one.height; ++y)
            for (std::int64_t x = 0; x < one.width; ++x)
                for (int c = 0; c < one.channels; ++c) {
                    const double phase =
                        0.21 * static_cast<double>(x + n) + 0.17 * (c + 1) * static_cast<double>(y);
                    const bool flat = 4 * y > 3 * one.height;
                    frames[next++] = static_cast<std::uint8_t>(
                        flat ? 40 : 127 + 90 * std::sin(phase) + static_cast<int>(random() % 30));
                }
    return frames;
}

// The kernel's phases, every thread of every tile in turn, from what another tile left behind.
template <int channels>
void run_tiles(const hog::TileGrid& grid, int threads) {
    const auto buffer = std::make_unique<hog::TileBuffer>();
    std::memset(static_cast<void*>(buffer.get()), 0xFF, sizeof(hog::TileBuffer));
    const auto every = [&](auto&& phase) {
        for (int thread = threads - 1; thread >= 0; --thread) phase(thread);
    };
    for (std::int64_t index = 0; index < grid.tiles(); ++index) {
        const hog::Tile tile = hog::tile_at(grid, index);
        every([&](int t) { hog::clear_sums(t, threads, *buffer); });
        for (hog::Band band = hog::first_band(grid, tile); band.y < hog::last_row(grid, tile);
             band = hog::next_band(grid, tile, band)) {
            REQUIRE(band.end > band.y);
            REQUIRE((band.end - band.y) * hog::band_pitch(tile, band.columns) <= hog::band_pixels);
            every([&](int t) {
                hog::measure_gradients<channels>(grid, tile, band, t, threads, *buffer);
            });
            every([&](int t) { hog::gather_votes(grid, tile, band, t, threads, *buffer); });
        }
        every([&](int t) { hog::join_halves(tile, t, threads, *buffer); });
        every([&](int t) { hog::measure_norms(tile, t, threads, *buffer); });
        every([&](int t) { hog::write_features(grid, tile, t, threads, *buffer); });
    }
}

void compare(const Case& one, int threads) {
    const std::int64_t count = 2;
    const auto pixels = make_frames(one, count);
    const hog::Frames frames{pixels.data(), count, one.height, one.width, one.channels};
    const auto size = static_cast<std::size_t>(
        count * (hog::cells_along(one.height, one.cell_size) - 2) *
        (hog::cells_along(one.width, one.cell_size) - 2) * hog::num_channels);
    std::vector<float> expected(size), found(size + 1, untouched);
    hog::describe(frames, one.cell_size, expected.data(), Context{1, nullptr});
    const hog::TileGrid grid = hog::make_tile_grid(frames, one.cell_size, found.data());
    if (one.channels == 3)
        run_tiles<3>(grid, threads);
    else
        run_tiles<1>(grid, threads);
    CHECK(found[size] == untouched);
    double worst = 0;
    for (std::size_t i = 0; i < size; ++i)
        worst = test::worse(worst, std::abs(found[i] - expected[i]));
    INFO(one.height, " x ", one.width, " x ", one.channels, ", cells of ", one.cell_size);
#if defined(__FMA__) || defined(__aarch64__)
    CHECK(worst <= 1e-6);
#else
    CHECK(worst == 0);  // without fused multiply-adds to the bit
#endif
}

}  // namespace

TEST_CASE("the CUDA kernel of HOG, run thread by thread, equals the CPU's") {
    for (const int channels : {1, 3}) {
        compare({128, 128, channels, 8}, 256);
        compare({130, 97, channels, 8}, 256);
        compare({67, 33, channels, 8}, 64);
        compare({20, 300, channels, 8}, 256);  // several tiles along a row
        compare({300, 20, channels, 8}, 32);
        compare({3, 4, channels, 1}, 256);
        compare({41, 50, channels, 1}, 96);
        compare({17, 16, channels, 5}, 256);
        compare({97, 140, channels, 3}, 256);
        compare({14, 65, channels, 3}, 7);
    }
}

TEST_CASE("the CUDA kernel of HOG takes cells wider than its buffer in pieces") {
    compare({2000, 1600, 1, 520}, 256);
    compare({1300, 4000, 3, 230}, 256);  // the columns of 17 blocks do not fit together
    compare({760, 760, 3, 300}, 64);
}

TEST_CASE("the CUDA kernel of HOG has offsets of 64 bits") {
    const hog::Frames frames{nullptr, 200'000, 512, 512, 3};
    const hog::TileGrid grid = hog::make_tile_grid(frames, 8, nullptr);
    CHECK(grid.tiles() == 200'000 * 25);
    CHECK(hog::tile_at(grid, grid.tiles() - 1).frame == 199'999);
    CHECK(grid.tile_rows == 5);
}
