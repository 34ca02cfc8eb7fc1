// The CUDA kernel of gradient_channels without its launch: a thread block makes one tile of one
// image, in phases between which its threads wait for each other.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"
#include "training/augment_pixel.hpp"

namespace cliquesim::training {

inline constexpr int gradient_tile = 32;  // pixels along a tile
inline constexpr int largest_reach = 16;  // of the window, on both sides of its pixel
inline constexpr int gradient_span = gradient_tile + 2 * largest_reach;

struct GradientBuffer {
    float squares[gradient_span * gradient_span];  // of the tile and what its windows reach
    float row_sums[gradient_span * gradient_tile];
};

struct GradientGrid {
    const float* images;         // count x height x width x 3, 0 to 1
    const FrameChange* changes;  // whose extents fade the result, or null
    std::int64_t count;
    std::int32_t height, width;
    std::int32_t reach;
    float floor;
    std::int32_t tile_rows = 0, tile_columns = 0;  // of an image; see with_tiles

    CLIQUESIM_HOST_DEVICE std::int64_t tiles() const {
        return count * tile_rows * std::int64_t{tile_columns};
    }
};

inline GradientGrid with_tiles(GradientGrid grid) {
    grid.tile_rows = (grid.height + gradient_tile - 1) / gradient_tile;
    grid.tile_columns = (grid.width + gradient_tile - 1) / gradient_tile;
    return grid;
}

struct GradientTile {
    std::int64_t image;
    std::int32_t y, x;  // of its first pixel
};

CLIQUESIM_HOST_DEVICE inline GradientTile gradient_tile_at(const GradientGrid& grid,
                                                           std::int64_t index) {
    const std::int64_t row = index / grid.tile_columns;
    return {row / grid.tile_rows, static_cast<std::int32_t>(row % grid.tile_rows) * gradient_tile,
            static_cast<std::int32_t>(index % grid.tile_columns) * gradient_tile};
}

struct Gradient {
    float dx, dy, square;
};

// Of the strongest channel, the first one at ties.
CLIQUESIM_HOST_DEVICE inline Gradient strongest_gradient(const GradientGrid& grid,
                                                         std::int64_t image, std::int32_t y,
                                                         std::int32_t x) {
    const std::int32_t above = y > 0 ? y - 1 : 0, below = y + 1 < grid.height ? y + 1 : y;
    const std::int32_t before = x > 0 ? x - 1 : 0, after = x + 1 < grid.width ? x + 1 : x;
    const float* pixels = grid.images + image * grid.height * std::int64_t{grid.width} * 3;
    const auto at = [&](std::int32_t v, std::int32_t u) {
        return pixels + 3 * (v * grid.width + u);
    };
    Gradient best{0, 0, -1};
    for (int c = 0; c < 3; ++c) {
        const float dx = 0.5F * (at(y, after)[c] - at(y, before)[c]);
        const float dy = 0.5F * (at(below, x)[c] - at(above, x)[c]);
        const float square = dx * dx + dy * dy;
        if (square > best.square) best = {dx, dy, square};
    }
    return best;
}

CLIQUESIM_HOST_DEVICE inline void measure_squares(const GradientGrid& grid,
                                                  const GradientTile& tile, int thread, int threads,
                                                  GradientBuffer& buffer) {
    const std::int32_t span = gradient_tile + 2 * grid.reach;
    for (std::int32_t i = thread; i < span * span; i += threads) {
        const std::int32_t y = tile.y - grid.reach + i / span, x = tile.x - grid.reach + i % span;
        const bool inside = y >= 0 && y < grid.height && x >= 0 && x < grid.width;
        buffer.squares[i] = inside ? strongest_gradient(grid, tile.image, y, x).square : 0.0F;
    }
}

CLIQUESIM_HOST_DEVICE inline void sum_rows(const GradientGrid& grid, int thread, int threads,
                                           GradientBuffer& buffer) {
    const std::int32_t span = gradient_tile + 2 * grid.reach;
    for (std::int32_t i = thread; i < span * gradient_tile; i += threads) {
        const float* squares = buffer.squares + i / gradient_tile * span + i % gradient_tile;
        float sum = 0;
        for (std::int32_t u = 0; u <= 2 * grid.reach; ++u) sum += squares[u];
        buffer.row_sums[i] = sum;
    }
}

// Pixels of the window around `at`, cut at the border.
CLIQUESIM_HOST_DEVICE inline float window_pixels(std::int32_t at, std::int32_t reach,
                                                 std::int32_t side) {
    const std::int32_t first = at > reach ? at - reach : 0;
    const std::int32_t last = at + reach < side ? at + reach : side - 1;
    return static_cast<float>(last - first + 1);
}

template <typename T>
CLIQUESIM_HOST_DEVICE void write_gradients(const GradientGrid& grid, const GradientTile& tile,
                                           T* out, int thread, int threads,
                                           const GradientBuffer& buffer) {
    for (std::int32_t i = thread; i < gradient_tile * gradient_tile; i += threads) {
        const std::int32_t y = tile.y + i / gradient_tile, x = tile.x + i % gradient_tile;
        if (y >= grid.height || x >= grid.width) continue;
        float energy = 0;
        for (std::int32_t v = 0; v <= 2 * grid.reach; ++v)
            energy += buffer.row_sums[i + v * gradient_tile];
        energy /=
            window_pixels(y, grid.reach, grid.height) * window_pixels(x, grid.reach, grid.width);
        const Gradient own = strongest_gradient(grid, tile.image, y, x);
        float scale = 1.0F / sqrtf(energy + grid.floor * grid.floor);
        if (grid.changes != nullptr) {
            const float* extent = grid.changes[tile.image].extent;
            scale *= fading(extent[0], pixel_centre(x, grid.width)) *
                     fading(extent[1], pixel_centre(y, grid.height));
        }
        const float magnitude = sqrtf(own.square);
        const float turn = scale / fmaxf(magnitude, 1e-8F);
        const std::int64_t row = tile.image * grid.height + y;
        T* written = out + (row * grid.width + x) * 3;
        written[0] = from_float<T>(magnitude * scale);
        written[1] = from_float<T>((own.dx * own.dx - own.dy * own.dy) * turn);
        written[2] = from_float<T>(2.0F * own.dx * own.dy * turn);
    }
}

}  // namespace cliquesim::training
