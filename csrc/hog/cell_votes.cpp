#include <algorithm>

#include "common/vectors.hpp"
#include "hog/cells.hpp"
#include "hog/gradients.hpp"

namespace cliquesim::hog {

namespace {

constexpr std::int64_t corners = 4;  // upper left, upper right, lower left, lower right
constexpr std::int64_t block_size = num_orientations * corners;
using Slot = float[slot_floats];
constexpr std::int64_t group = 4;  // cells that are finished together

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

}  // namespace

CellVotes::CellVotes(std::int64_t rows, std::int64_t cols, std::int64_t cell_size)
    : rows_(rows),
      cols_(cols),
      cell_size_(cell_size),
      // Whole registers of cells can be read, and planes do not all meet in the same cache sets.
      plane_stride_((rows * cols + 2 * register_lanes - 1) / register_lanes * register_lanes + 16),
      shares_(size(cell_size)),
      votes_((cols + 1 + group) * block_size),
      bins_(num_orientations * plane_stride_) {
    for (std::int64_t k = 0; k < cell_size; ++k)
        shares_[size(k)] =
            static_cast<float>(2 * k + 1 - cell_size % 2) / static_cast<float>(2 * cell_size);
}

void CellVotes::start_frame() {
    std::fill_n(votes_.data(), votes_.size(), 0.0F);
    block_row_ = 0;
}

void CellVotes::add_row(std::int64_t y, const float* magnitude, const std::uint8_t* slots) {
    const std::int64_t from_first = y + pixels_before(cell_size_);
    for (; block_row_ < from_first / cell_size_; ++block_row_) finish_block_row();
    const float below = shares_[size(from_first % cell_size_)];
    if (cell_size_ == 8)
        vote<8>(magnitude, slots, below);
    else
        vote<0>(magnitude, slots, below);
}

void CellVotes::finish_frame() {
    for (; block_row_ <= rows_; ++block_row_) finish_block_row();
}

// One column of all blocks at a time: pixels that follow each other vote into different blocks and
// do not wait for each other's addition.
template <int fixed_size>
void CellVotes::vote(const float* magnitude, const std::uint8_t* slots, float below) {
    const std::int64_t width = fixed_size ? fixed_size : cell_size_, blocks = cols_ + 1;
    for (std::int64_t k = 0; k < width; ++k) {
        const float right = shares_[size(k)];
        const Quad weights = {(1.0F - right) * (1.0F - below), right * (1.0F - below),
                              (1.0F - right) * below, right * below};
        const float* __restrict from = magnitude + k;
        const std::uint8_t* __restrict slot = slots + k;
        auto* __restrict block = reinterpret_cast<Slot*>(votes_.data());
#pragma GCC unroll 4
        for (std::int64_t b = 0; b < blocks; ++b) {
            float* to = block[slot[b * width]];
            store(to, load<Quad>(to) + from[b * width] * weights);
            block += block_size / slot_floats;
        }
    }
}

void CellVotes::finish_block_row() {
    // The first row of blocks has no cells above it.
    float* __restrict row = block_row_ > 0 ? bins_.data() + (block_row_ - 1) * cols_ : nullptr;
    for (std::int64_t j = 0; j <= cols_; j += group) {
        for (int o = 0; o < num_orientations; ++o) {
            float* from = votes_.data() + j * block_size + o * corners;
            Quad v[group + 1];
            for (std::int64_t n = 0; n <= group; ++n) v[n] = load<Quad>(from + n * block_size);
            if (row && j < cols_) {
                // Cell j lies to the upper right in block j and to the upper left in block j + 1.
                const Quad right =
                    pick<2, 3, 6, 7>(pick<0, 4, 1, 5>(v[0], v[1]), pick<0, 4, 1, 5>(v[2], v[3]));
                const Quad left =
                    pick<0, 1, 4, 5>(pick<0, 4, 1, 5>(v[1], v[2]), pick<0, 4, 1, 5>(v[3], v[4]));
                store(row + o * plane_stride_ + j, right + left);
            }
            for (std::int64_t n = 0; n < group; ++n)
                store(from + n * block_size, pick<2, 3, 4, 5>(v[n], Quad{}));
        }
    }
}

}  // namespace cliquesim::hog
