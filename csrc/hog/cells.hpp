// Second half of HOG: votes of pixels into cells, and the cells' normalisation.
#pragma once

#include <cstdint>
#include <vector>

#include "common/vectors.hpp"
#include "hog/hog.hpp"

namespace cliquesim::hog {

// Votes of one frame, row of pixels by row of pixels.
//
// A "block" is the square between four cell centres; all of its pixels vote into the same four
// cells. So a pixel's bilinear vote is a single 4-wide multiply-add into its block's sums. Two
// blocks above each other share two cells: after a row of blocks the upper cells are complete, and
// the lower ones' sums become the upper ones' of the next row.
class CellVotes {
  public:
    CellVotes(std::int64_t rows, std::int64_t cols, std::int64_t cell_size);

    void start_frame();
    // Row y of pixels, rising: magnitudes and slots (see GradientRows) of all blocks, from the
    // first block's first pixel on, which lies `pixels_before` the frame.
    void add_row(std::int64_t y, const float* magnitude, const std::uint8_t* slots);
    void finish_frame();

    // Signed orientation sums; one plane per orientation, cells in row-major order. Readable for
    // some cells beyond the last.
    const float* bins() const { return bins_.data(); }
    std::int64_t plane_stride() const { return plane_stride_; }

    // Pixels before x = 0 that belong to the first block.
    static std::int64_t pixels_before(std::int64_t cell_size) { return (cell_size + 1) / 2; }

  private:
    void finish_block_row();
    template <int fixed_size>
    void vote(const float* magnitude, const std::uint8_t* slots, float below);

    std::int64_t rows_, cols_, cell_size_;
    std::int64_t plane_stride_;
    std::int64_t block_row_ = 0;
    std::vector<float> shares_;  // share of the cell to the right (below), by pixel of a block
    AlignedArray<float> votes_;  // one row of blocks: block x orientation x corner
    AlignedArray<float> bins_;
};

// Writes (rows - 2) x (cols - 2) x 31 features from the bins of rows x cols cells.
class CellNormalizer {
  public:
    CellNormalizer(std::int64_t rows, std::int64_t cols);
    void run(const CellVotes& votes, float* features);

  private:
    void measure_blocks(const CellVotes& votes);

    std::int64_t rows_, cols_;
    std::vector<std::int64_t> target_;  // where a cell's features go, -1 for the outer cells
    AlignedArray<float> energy_;
    AlignedArray<float> half_inverse_;  // half of 1 / norm of the 2 x 2 cells from the cell on
};

}  // namespace cliquesim::hog
