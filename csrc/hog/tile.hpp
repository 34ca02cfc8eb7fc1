// The CUDA kernel of HOG without its launch: a thread block describes one tile of cells of one
// frame, in phases between which its threads wait for each other. A host test runs the same phases
// thread by thread.
//
// Sums are gathered: one thread at a time owns a half cell (the part of a cell's bilinear window
// that lies in one column of blocks, see CellVotes) and adds its pixels in the order of the CPU
// kernel. So no result depends on the schedule, and without fused multiply-adds it has the CPU's
// bits.
//
// Cost: 49 KB are read and 24 KB written for 128 x 128 RGB; every pixel's gradient is made once and
// votes four times, each vote a load and a store of shared memory.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.hpp"
#include "hog/hog.hpp"
#include "hog/orientation.hpp"

namespace cliquesim::hog {

inline constexpr int tile_side = 16;  // cells along a tile, the outer ones of which only normalise
inline constexpr int tile_cells = tile_side * tile_side;
inline constexpr int half_cells = 2 * tile_cells;
inline constexpr int band_pixels = 3584;
inline constexpr int band_columns = 512;  // of a block

// 55.5 KiB: four thread blocks on a multiprocessor of an H200.
struct TileBuffer {
    float sums[num_orientations * half_cells];
    union {
        struct {
            float magnitude[band_pixels];
            float shares[band_columns];
            std::uint8_t orientation[band_pixels];
        } band;
        struct {
            float energy[tile_cells];
            float half_inverse[tile_cells];
        } norms;
    };
};

// All frames, cut into tiles. Device pointers on the device, host pointers in the test.
struct TileGrid {
    const std::uint8_t* frames;
    float* features;
    std::int64_t count;
    std::int32_t height, width, channels, cell_size;
    std::int32_t rows, cols;            // cells of a frame
    std::int32_t tile_rows, tile_cols;  // tiles of a frame

    CLIQUESIM_HOST_DEVICE std::int64_t tiles() const {
        return count * tile_rows * std::int64_t{tile_cols};
    }
};

inline TileGrid make_tile_grid(const Frames& frames, std::int64_t cell_size, float* features) {
    const auto narrow = [](std::int64_t n) { return static_cast<std::int32_t>(n); };
    const auto tiles = [](std::int64_t cells) {
        return (cells - 2 + tile_side - 3) / (tile_side - 2);
    };
    const std::int64_t rows = cells_along(frames.height, cell_size);
    const std::int64_t cols = cells_along(frames.width, cell_size);
    return {frames.data,          features,
            frames.count,         narrow(frames.height),
            narrow(frames.width), frames.channels,
            narrow(cell_size),    narrow(rows),
            narrow(cols),         narrow(tiles(rows)),
            narrow(tiles(cols))};
}

CLIQUESIM_HOST_DEVICE inline std::int32_t at_most(std::int32_t a, std::int32_t limit) {
    return a < limit ? a : limit;
}
CLIQUESIM_HOST_DEVICE inline std::int32_t at_least(std::int32_t a, std::int32_t limit) {
    return a > limit ? a : limit;
}

// Where a tile lies: its frame, its first cell, and its cells.
struct Tile {
    std::int64_t frame;
    std::int32_t row, col, rows, cols;
};

CLIQUESIM_HOST_DEVICE inline Tile tile_at(const TileGrid& grid, std::int64_t index) {
    const std::int64_t in_rows = index / grid.tile_cols;
    const auto col = static_cast<std::int32_t>(index % grid.tile_cols) * (tile_side - 2);
    const auto row = static_cast<std::int32_t>(in_rows % grid.tile_rows) * (tile_side - 2);
    return {in_rows / grid.tile_rows, row, col, at_most(grid.rows - row, tile_side),
            at_most(grid.cols - col, tile_side)};
}

// The pixels whose gradients are in the buffer together: rows [y, end), of every block the columns
// [column, column + columns).
struct Band {
    std::int32_t y, end, column, columns;
};

// Pixels before the first block's cell centre, as CellVotes::pixels_before.
CLIQUESIM_HOST_DEVICE inline std::int32_t before(std::int32_t cell_size) {
    return (cell_size + 1) / 2;
}

// A step of 8 floats, that of cells of 8 pixels, meets every bank of shared memory.
CLIQUESIM_HOST_DEVICE inline std::int32_t spread(std::int32_t column) {
    return column + (column >> 5);
}

CLIQUESIM_HOST_DEVICE inline std::int32_t band_pitch(const Tile& tile, std::int32_t columns) {
    return spread((tile.cols + 1) * columns - 1) + 1;
}

// Rows of pixels that vote into the tile's cells.
CLIQUESIM_HOST_DEVICE inline std::int32_t first_row(const TileGrid& grid, const Tile& tile) {
    return at_least(tile.row * grid.cell_size - before(grid.cell_size), 1);
}
CLIQUESIM_HOST_DEVICE inline std::int32_t last_row(const TileGrid& grid, const Tile& tile) {
    return at_most((tile.row + tile.rows + 1) * grid.cell_size - before(grid.cell_size),
                   grid.rows * grid.cell_size - 1);
}

CLIQUESIM_HOST_DEVICE inline Band band_from(const TileGrid& grid, const Tile& tile, std::int32_t y,
                                            std::int32_t column) {
    const std::int32_t longest =
        at_most(band_columns, (band_pixels - band_pixels / 32) / (tile.cols + 1));
    const std::int32_t columns = at_most(grid.cell_size - column, longest);
    const std::int32_t rows =
        columns == grid.cell_size ? band_pixels / band_pitch(tile, columns) : 1;
    return {y, at_most(y + rows, last_row(grid, tile)), column, columns};
}

CLIQUESIM_HOST_DEVICE inline Band first_band(const TileGrid& grid, const Tile& tile) {
    return band_from(grid, tile, first_row(grid, tile), 0);
}
CLIQUESIM_HOST_DEVICE inline Band next_band(const TileGrid& grid, const Tile& tile,
                                            const Band& band) {
    const std::int32_t column = band.column + band.columns;
    return column < grid.cell_size ? band_from(grid, tile, band.y, column)
                                   : band_from(grid, tile, band.end, 0);
}

// Phase 1, once.
CLIQUESIM_HOST_DEVICE inline void clear_sums(int thread, int threads, TileBuffer& buffer) {
    for (int i = thread; i < num_orientations * half_cells; i += threads) buffer.sums[i] = 0;
}

struct Gradient {
    float magnitude;
    std::uint8_t orientation;
};

// The strongest channel's gradient; the earlier channel wins a tie.
CLIQUESIM_HOST_DEVICE inline Gradient gradient_at(const std::uint8_t* pixel, std::int64_t row_bytes,
                                                  std::int32_t channels) {
    std::int32_t squared = -1, best_dx = 0, best_dy = 0;
    for (std::int32_t c = 0; c < channels; ++c) {
        const std::int32_t dx = pixel[c + channels] - pixel[c - channels];
        const std::int32_t dy = pixel[c + row_bytes] - pixel[c - row_bytes];
        const std::int32_t candidate = dx * dx + dy * dy;
        if (candidate <= squared) continue;
        squared = candidate;
        best_dx = dx;
        best_dy = dy;
    }
    return {
        std::sqrt(static_cast<float>(squared)),
        orientation_bin(static_cast<std::int16_t>(best_dx), static_cast<std::int16_t>(best_dy))};
}

// Share of the cell to the right of (or below) a pixel of a block.
CLIQUESIM_HOST_DEVICE inline float share(std::int32_t pixel, std::int32_t cell_size) {
    return static_cast<float>(2 * pixel + 1 - cell_size % 2) / static_cast<float>(2 * cell_size);
}

// Phase 2, for every band. Beyond the frame's last gradient that one is repeated, up to the last
// whole cell; other pixels outside have magnitude 0.
template <int channels>
CLIQUESIM_HOST_DEVICE inline void measure_gradients(const TileGrid& grid, const Tile& tile,
                                                    const Band& band, int thread, int threads,
                                                    TileBuffer& buffer) {
    const std::int64_t row_bytes = std::int64_t{grid.width} * channels;
    const std::uint8_t* frame = grid.frames + tile.frame * grid.height * row_bytes;
    const std::int32_t cell = grid.cell_size, columns = band.columns;
    const std::int32_t width = (tile.cols + 1) * columns, pitch = band_pitch(tile, columns);
    const std::int32_t origin = tile.col * cell - before(cell) + band.column;
    const std::int32_t end = grid.cols * cell - 1, lanes = at_most(32, threads);
    for (std::int32_t y = band.y + thread / lanes; y < band.end; y += threads / lanes) {
        const std::uint8_t* row = frame + at_most(y, grid.height - 2) * row_bytes;
        const std::int32_t to = (y - band.y) * pitch;
        for (std::int32_t i = thread % lanes; i < width; i += lanes) {
            const std::int32_t offset = columns == cell ? i : i / columns * cell + i % columns;
            const std::int32_t x = origin + offset;
            Gradient gradient{0, 0};
            if (x >= 1 && x < end)
                gradient = gradient_at(row + std::int64_t{at_most(x, grid.width - 2)} * channels,
                                       row_bytes, channels);
            buffer.band.magnitude[to + spread(i)] = gradient.magnitude;
            buffer.band.orientation[to + spread(i)] = gradient.orientation;
        }
    }
    for (std::int32_t k = thread; k < columns; k += threads)
        buffer.band.shares[k] = share(band.column + k, cell);
}

// The band's votes for one half cell: that of cell (row, col) of the tile in the block to its left
// (side 0) or right (side 1).
CLIQUESIM_HOST_DEVICE inline void vote(const TileGrid& grid, const Tile& tile, const Band& band,
                                       std::int32_t row, std::int32_t col, std::int32_t side,
                                       TileBuffer& buffer) {
    const std::int32_t cell = grid.cell_size, pitch = band_pitch(tile, band.columns);
    const std::int32_t top = (tile.row + row) * cell - before(cell);
    const std::int32_t begin = at_least(top, band.y), end = at_most(top + 2 * cell, band.end);
    // Nothing that is read here is written here, so that the loads of some pixels come together.
    const float* __restrict magnitudes = buffer.band.magnitude;
    const float* __restrict shares = buffer.band.shares;
    const std::uint8_t* __restrict orientations = buffer.band.orientation;
    float* __restrict sums = buffer.sums + side * tile_cells + row * tile.cols + col;
    const std::int32_t first = (col + side) * band.columns;
    for (std::int32_t y = begin; y < end; ++y) {
        const std::int32_t below_top = y - top;
        const float vertical =
            below_top < cell ? share(below_top, cell) : 1.0F - share(below_top - cell, cell);
        const std::int32_t from = (y - band.y) * pitch;
#pragma unroll 8
        for (std::int32_t k = 0; k < band.columns; ++k) {
            const float right = shares[k];
            const float weight = (side ? 1.0F - right : right) * vertical;
            const std::int32_t at = from + spread(first + k);
            sums[orientations[at] * half_cells] += magnitudes[at] * weight;
        }
    }
}

// Phase 3, for every band: the half cells of the rows of cells that the band reaches.
CLIQUESIM_HOST_DEVICE inline void gather_votes(const TileGrid& grid, const Tile& tile,
                                               const Band& band, int thread, int threads,
                                               TileBuffer& buffer) {
    const std::int32_t cell = grid.cell_size, origin = tile.row * cell - before(cell);
    const std::int32_t first = at_least((band.y - origin) / cell - 1, 0);
    const std::int32_t end = at_most((band.end - 1 - origin) / cell + 1, tile.rows);
    const std::int32_t cells = (end - first) * tile.cols;
    for (std::int32_t i = thread; i < 2 * cells; i += threads) {
        const std::int32_t side = i >= cells, in_side = i - side * cells;
        vote(grid, tile, band, first + in_side / tile.cols, in_side % tile.cols, side, buffer);
    }
}

// Phase 4: cells from their halves, and their energies.
CLIQUESIM_HOST_DEVICE inline void join_halves(const Tile& tile, int thread, int threads,
                                              TileBuffer& buffer) {
    constexpr int opposite = num_orientations / 2 * half_cells;
    for (int i = thread; i < tile.rows * tile.cols; i += threads) {
        float* sums = buffer.sums + i;
        for (int o = 0; o < num_orientations; ++o)
            sums[o * half_cells] += sums[o * half_cells + tile_cells];
        float energy = 0;
        for (int o = 0; o < num_orientations / 2; ++o) {
            const float value = sums[o * half_cells] + sums[o * half_cells + opposite];
            energy += value * value;
        }
        buffer.norms.energy[i] = energy;
    }
}

// Phase 5: half of 1 / norm of the 2 x 2 cells from each cell on.
CLIQUESIM_HOST_DEVICE inline void measure_norms(const Tile& tile, int thread, int threads,
                                                TileBuffer& buffer) {
    for (int i = thread; i < (tile.rows - 1) * tile.cols; i += threads) {
        if (i % tile.cols == tile.cols - 1) continue;
        const float* above = buffer.norms.energy + i;
        const float* below = above + tile.cols;
        buffer.norms.half_inverse[i] =
            0.5F / std::sqrt(above[0] + above[1] + below[0] + below[1] + norm_epsilon);
    }
}

CLIQUESIM_HOST_DEVICE inline float clipped(float value, float norm) {
    const float product = value * norm;
    return product < half_clip ? product : half_clip;
}

// Channel `channel` of the tile's cell `index`.
CLIQUESIM_HOST_DEVICE inline float channel_value(const Tile& tile, int index, int channel,
                                                 const TileBuffer& buffer) {
    constexpr int num_unsigned = num_orientations / 2;
    constexpr int num_bins = num_orientations + num_unsigned;
    const float* inverse = buffer.norms.half_inverse + index;
    const float* sums = buffer.sums + index;
    // In voc-release's order: lower right, upper right, lower left, upper left.
    const int places[4] = {0, -tile.cols, -1, -tile.cols - 1};
    float sum = 0;
    if (channel >= num_bins) {
        const int n = channel - num_bins;
        const float norm = inverse[-(n & 1) * tile.cols - (n >> 1)];
        for (int o = 0; o < num_orientations; ++o) sum += clipped(sums[o * half_cells], norm);
        return texture_weight * sum;
    }
    const int o = channel < num_orientations ? channel : channel - num_orientations;
    float value = sums[o * half_cells];
    if (channel >= num_orientations) value += sums[(o + num_unsigned) * half_cells];
    for (int n = 0; n < 4; ++n) sum += clipped(value, inverse[places[n]]);
    return sum;
}

// Phase 6: neighbouring threads write neighbouring numbers.
CLIQUESIM_HOST_DEVICE inline void write_features(const TileGrid& grid, const Tile& tile, int thread,
                                                 int threads, const TileBuffer& buffer) {
    const std::int32_t cols = tile.cols - 2, line = cols * num_channels;
    const std::int64_t frame_cols = grid.cols - 2;
    float* features =
        grid.features +
        ((tile.frame * (grid.rows - 2) + tile.row) * frame_cols + tile.col) * num_channels;
    for (std::int32_t i = thread; i < (tile.rows - 2) * line; i += threads) {
        const std::int32_t row = i / line, in_row = i % line;
        const std::int32_t col = in_row / num_channels, channel = in_row % num_channels;
        features[row * frame_cols * num_channels + in_row] =
            channel_value(tile, (row + 1) * tile.cols + col + 1, channel, buffer);
    }
}

}  // namespace cliquesim::hog
