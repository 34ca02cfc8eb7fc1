// The CUDA kernels of augmentation without their launches. Two may come first, a thread block per
// frame, for means over whole frames: of the colours, and of what an erased rectangle is filled
// with. Then every thread makes pixels from the corpus to what the network reads, at once.
//
// Nothing but the means is kept between: a pixel is sampled anew for each of them. A frame's bytes
// come from the L2 cache after the first time.
#pragma once

#include <cstdint>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"
#include "training/augment_pixel.hpp"

namespace cliquesim::training {

inline constexpr std::int32_t piece_side = 4;  // of squares whose rows are written at once

// Device pointers on the device, host pointers in the test.
struct AugmentGrid {
    const std::uint8_t* corpus;  // height x width x 3 bytes and `frame_padding` every `stride`
    std::int64_t stride;
    bool gathered;  // the corpus is the batch itself, in its order
    const FrameChange* changes;
    std::int64_t count;
    std::int32_t height, width;
    bool moves, recolours, covers, erases;
    float softness;
    float* colour_means;  // count, if recolours
    float* erase_means;   // count x 3, if erases
    float mean, scale;    // a pixel p is written as (p - mean) scale
    bool fades;           // to 0 outside the subject
    // Pixels of a square of `block` x `block` are written one after the other, row by row, and the
    // squares likewise: a convolution that steps by `block` is then one that steps by 1, with more
    // channels, which tensor cores like better. What lies beyond the frame is not written.
    std::int32_t block = 1;
    std::int32_t pitch = 3;  // numbers from square to square, at least 3 block^2

    CLIQUESIM_HOST_DEVICE FrameView frame(std::int64_t index, const FrameChange& change) const {
        const std::int64_t position = gathered ? index : change.frame;
        return {corpus + position * stride, height, width};
    }
    CLIQUESIM_HOST_DEVICE std::int32_t pixels() const { return height * width; }
    CLIQUESIM_HOST_DEVICE bool replaces() const { return covers || erases; }
    // Of what a thread writes together.
    CLIQUESIM_HOST_DEVICE std::int32_t row_pieces() const {
        return block == piece_side ? (width + block - 1) / block : width;
    }
    // Where a pixel is written; `known` is `block`, or 0.
    template <std::int32_t known>
    CLIQUESIM_HOST_DEVICE std::int64_t place(std::int64_t index, std::int32_t y,
                                             std::int32_t x) const {
        const std::int32_t side = known > 0 ? known : block;
        const std::int32_t down = (height + side - 1) / side, across = (width + side - 1) / side;
        const std::int64_t square = index * down * across + y / side * across + x / side;
        return square * pitch + 3 * (y % side * side + x % side);
    }
};

// `change` is that of frame `index`, read once by who asks for many of its pixels.
CLIQUESIM_HOST_DEVICE inline Rgb moved_pixel(const AugmentGrid& grid, std::int64_t index,
                                             const FrameChange& change, std::int32_t y,
                                             std::int32_t x) {
    const FrameView frame = grid.frame(index, change);
    return grid.moves ? sampled_pixel(frame, change.affine, y, x)
                      : copied_pixel(frame, change.affine[0] < 0, y, x);
}

CLIQUESIM_HOST_DEVICE inline Rgb coloured_pixel(const AugmentGrid& grid, std::int64_t index,
                                                const FrameChange& change, std::int32_t y,
                                                std::int32_t x) {
    const Rgb pixel = moved_pixel(grid, index, change, y, x);
    return grid.recolours ? recoloured_pixel(pixel, change.colour, grid.colour_means[index])
                          : pixel;
}

CLIQUESIM_HOST_DEVICE inline Rgb covered_pixel(const AugmentGrid& grid, std::int64_t index,
                                               const FrameChange& change, std::int32_t y,
                                               std::int32_t x) {
    const float own = grid.covers
                          ? own_share(change.ellipse, grid.softness, pixel_centre(x, grid.width),
                                      pixel_centre(y, grid.height))
                          : 1.0F;
    Rgb pixel{};
    if (own > 0) pixel = coloured_pixel(grid, index, change, y, x);
    if (own >= 1) return pixel;
    const Rgb other = coloured_pixel(grid, change.other, grid.changes[change.other], y, x);
    for (int c = 0; c < 3; ++c)
        pixel.values[c] = own * pixel.values[c] + (1.0F - own) * other.values[c];
    return pixel;
}

// Every step-th pixel of a frame, without a division for each.
struct PixelWalk {
    std::int32_t y, x;

    CLIQUESIM_HOST_DEVICE PixelWalk(std::uint32_t first, std::uint32_t step, std::int32_t width)
        : y(static_cast<std::int32_t>(first / static_cast<std::uint32_t>(width))),
          x(static_cast<std::int32_t>(first % static_cast<std::uint32_t>(width))),
          down_(static_cast<std::int32_t>(step / static_cast<std::uint32_t>(width))),
          across_(static_cast<std::int32_t>(step % static_cast<std::uint32_t>(width))),
          width_(width) {}
    CLIQUESIM_HOST_DEVICE void advance() {
        y += down_;
        x += across_;
        if (x >= width_) {
            x -= width_;
            ++y;
        }
    }

  private:
    std::int32_t down_, across_, width_;
};

// --- means, a thread block per frame ---

inline constexpr int mean_threads = 1024;  // at most, and a power of two

struct MeanBuffer {
    Rgb sums[mean_threads];
};

CLIQUESIM_HOST_DEVICE inline bool needs_erase_mean(const AugmentGrid& grid, std::int64_t index) {
    const float* edges = grid.changes[index].erase;
    return edges[0] <= edges[1] && edges[2] <= edges[3];
}

// Sums of every threads-th pixel.
template <bool covered>
CLIQUESIM_HOST_DEVICE void add_pixels(const AugmentGrid& grid, std::int64_t index, int thread,
                                      int threads, MeanBuffer& buffer) {
    Rgb sum{};
    const FrameChange change = grid.changes[index];
    PixelWalk at(static_cast<std::uint32_t>(thread), static_cast<std::uint32_t>(threads),
                 grid.width);
    for (; at.y < grid.height; at.advance()) {
        const Rgb pixel = covered ? covered_pixel(grid, index, change, at.y, at.x)
                                  : moved_pixel(grid, index, change, at.y, at.x);
        for (int c = 0; c < 3; ++c) sum.values[c] += pixel.values[c];
    }
    buffer.sums[thread] = sum;
}

// Phases with half = threads / 2, threads / 4, ..., 1: sums[0] becomes the sum of all.
CLIQUESIM_HOST_DEVICE inline void fold_sums(int thread, int half, MeanBuffer& buffer) {
    if (thread >= half) return;
    for (int c = 0; c < 3; ++c)
        buffer.sums[thread].values[c] += buffer.sums[thread + half].values[c];
}

template <bool covered>
CLIQUESIM_HOST_DEVICE void write_means(const AugmentGrid& grid, std::int64_t index, int thread,
                                       const MeanBuffer& buffer) {
    if (thread != 0) return;
    const auto pixels = static_cast<float>(grid.pixels());
    float total = 0;
    for (int c = 0; c < 3; ++c) {
        const float sum = buffer.sums[0].values[c];
        if (covered) grid.erase_means[3 * index + c] = sum / pixels;
        total += grid.changes[index].colour[c] * sum;
    }
    if (!covered) grid.colour_means[index] = total / (3.0F * pixels);
}

// --- pixels ---

// What is written of a pixel.
template <bool replaces>
CLIQUESIM_HOST_DEVICE Rgb written_pixel(const AugmentGrid& grid, std::int64_t index,
                                        const FrameChange& change, std::int32_t y, std::int32_t x) {
    const float across = pixel_centre(x, grid.width), down = pixel_centre(y, grid.height);
    Rgb pixel{};
    if (!replaces) {
        pixel = coloured_pixel(grid, index, change, y, x);
    } else if (grid.erases && is_erased(change.erase, across, down)) {
        for (int c = 0; c < 3; ++c) pixel.values[c] = grid.erase_means[3 * index + c];
    } else {
        pixel = covered_pixel(grid, index, change, y, x);
    }
    float weight = grid.scale;
    if (grid.fades) weight *= fading(change.extent[0], across) * fading(change.extent[1], down);
    for (float& value : pixel.values) value = (value - grid.mean) * weight;
    return pixel;
}

// One thread: every frame_step-th frame from first_frame on, likewise for pieces of rows, each a
// square's part of a row. `replaces`: pixels may be covered or erased. `block` is the grid's, as a
// constant where it is known.
template <std::int32_t block, bool replaces, typename T>
CLIQUESIM_HOST_DEVICE void augment_frames(const AugmentGrid& grid, T* out, std::int64_t first_frame,
                                          std::int64_t frame_step, std::uint32_t first_piece,
                                          std::uint32_t piece_step) {
    constexpr std::int32_t side = block > 1 ? block : 1;
    for (std::int64_t index = first_frame; index < grid.count; index += frame_step) {
        const FrameChange change = grid.changes[index];
        for (PixelWalk at(first_piece, piece_step, grid.row_pieces()); at.y < grid.height;
             at.advance()) {
            const std::int32_t x = side * at.x;
            T* const written = out + grid.place<block>(index, at.y, x);
            Piece<T, 3 * side> values{};
            for (int i = 0; i < side; ++i) {
                const std::int32_t column = x + i < grid.width ? x + i : grid.width - 1;
                const Rgb pixel = written_pixel<replaces>(grid, index, change, at.y, column);
                for (int c = 0; c < 3; ++c)
                    values.values[3 * i + c] = from_float<T>(pixel.values[c]);
            }
            if (side > 1 && x + side <= grid.width && grid.pitch % side == 0) {
                *reinterpret_cast<Piece<T, 3 * side>*>(written) = values;
                continue;
            }
            for (int i = 0; i < 3 * side; ++i)
                if (3 * x + i < 3 * grid.width) written[i] = values.values[i];
        }
    }
}

template <bool replaces, typename T>
CLIQUESIM_HOST_DEVICE void augment_thread(const AugmentGrid& grid, T* out, std::int64_t first_frame,
                                          std::int64_t frame_step, std::uint32_t first_piece,
                                          std::uint32_t piece_step) {
    if (grid.block == piece_side)
        augment_frames<piece_side, replaces>(grid, out, first_frame, frame_step, first_piece,
                                             piece_step);
    else if (grid.block == 1)
        augment_frames<1, replaces>(grid, out, first_frame, frame_step, first_piece, piece_step);
    else
        augment_frames<0, replaces>(grid, out, first_frame, frame_step, first_piece, piece_step);
}

// --- frames of a corpus in pinned host memory ---

// Copies the frames of a batch in pieces of 16 bytes, each of which crosses the bus once.
struct GatherGrid {
    const Four<std::uint32_t>* corpus;
    std::int64_t stride;  // pieces from frame to frame
    const FrameChange* changes;
    std::int64_t count;
    Four<std::uint32_t>* out;  // count x stride
};

CLIQUESIM_HOST_DEVICE inline void gather_thread(const GatherGrid& grid, std::int64_t first_frame,
                                                std::int64_t frame_step, std::int64_t first_piece,
                                                std::int64_t piece_step) {
    for (std::int64_t index = first_frame; index < grid.count; index += frame_step)
        for (std::int64_t i = first_piece; i < grid.stride; i += piece_step)
            grid.out[index * grid.stride + i] =
                grid.corpus[grid.changes[index].frame * grid.stride + i];
}

}  // namespace cliquesim::training
