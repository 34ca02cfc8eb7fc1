// Descriptors rounded to int16, with a bound on what that does to their products.
#pragma once

#include <cstdint>
#include <span>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"
#include "neighbors/aligned_buffer.hpp"
#include "neighbors/int16_products.hpp"
#include "neighbors/row_blocks.hpp"

namespace cliquesim {

// Row x is t q + e with int16 q, |q| <= 46340, so that no sum of products of two such rows
// overflows int32, and |e| <= rounding |x|. By Cauchy-Schwarz,
//   |x . y - t_x t_y (q_x . q_y)| <= |e_x| |t_y q_y| + |x| |e_y| <= (2 r + r^2) |x| |y|.
class Int16Panels {
  public:
    Int16Panels() = default;
    Int16Panels(MatrixView<const float> rows, const RowBlocks& blocks, ThreadPool& pool);

    static std::int64_t kept_bytes(const RowBlocks& blocks, std::int64_t dimensions) {
        return blocks.count() * blocks.edge() * ((dimensions + 1) / 2 + 1) * 4;
    }

    // False where a row is so short or so long that its products may leave float32's range.
    bool in_range() const { return in_range_; }
    double rounding() const { return rounding_; }
    std::int64_t depth() const { return depth_; }
    const std::int32_t* block(std::int64_t block) const {
        return units_.data() + block * blocks_.edge() * depth_;
    }
    const float* scales(std::int64_t block) const {
        return scales_.data() + block * blocks_.edge();
    }
    // |x| of every row, rounded up.
    std::span<const float> lengths() const {
        return {lengths_.data(), static_cast<std::size_t>(blocks_.rows())};
    }

  private:
    struct Rounded {
        double rounding = 0;
        bool in_range = true;
    };
    Rounded pack(MatrixView<const float> rows, std::int64_t block);
    Rounded round_row(std::span<const float> row, std::int16_t* out, float& scale, float& length);

    RowBlocks blocks_;
    std::int64_t depth_ = 0;  // pairs of int16
    bool in_range_ = true;
    double rounding_ = 0;
    AlignedBuffer<std::int32_t> units_;
    AlignedBuffer<float> scales_;   // per place of every block
    AlignedBuffer<float> lengths_;  // per row
};

}  // namespace cliquesim
