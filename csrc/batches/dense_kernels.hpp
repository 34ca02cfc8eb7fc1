// Products, Cholesky factors and LU factors of column-major doubles: the arithmetic of the Newton
// systems. Nothing here allocates; results depend on the arguments alone.
#pragma once

#include <cstdint>

#include "batches/newton_system.hpp"

namespace cliquesim {

template <typename T>
struct ColumnView {
    T* data = nullptr;
    std::int64_t rows = 0, cols = 0;
    std::int64_t stride = 0;  // entries from one column to the next

    T& operator()(std::int64_t i, std::int64_t j) const { return data[i + j * stride]; }
    T* col(std::int64_t j) const { return data + j * stride; }
    ColumnView block(std::int64_t i, std::int64_t j, std::int64_t m, std::int64_t n) const {
        return {data + i + j * stride, m, n, stride};
    }
    operator ColumnView<const T>() const { return {data, rows, cols, stride}; }
};

using Columns = ColumnView<double>;
using ConstColumns = ColumnView<const double>;

// The second factor of a product, entry (k, j) at data[k * depth_stride + j * col_stride].
struct RightFactor {
    const double* data;
    std::int64_t cols, depth_stride, col_stride;
};

inline RightFactor plain(ConstColumns B) {
    return {B.data, B.cols, 1, B.stride};
}
inline RightFactor transposed(ConstColumns B) {
    return {B.data, B.rows, B.stride, 1};
}

// Memory of one thread for the panels that a product packs.
class PackBuffers {
  public:
    PackBuffers();
    double* left() { return left_.data(); }
    double* right() { return right_.data(); }

  private:
    AlignedVector left_, right_;
};

// The first factor of many products, packed once.
class PackedLeft {
  public:
    PackedLeft() = default;
    explicit PackedLeft(ConstColumns A);
    std::int64_t rows() const { return rows_; }
    std::int64_t cols() const { return cols_; }
    const double* data() const { return panels_.data(); }

  private:
    std::int64_t rows_ = 0, cols_ = 0;
    AlignedVector panels_;
};

enum class Triangle {
    none,
    lower_result,  // only the tiles of C that reach its lower triangle
    upper_left,    // A(i, k) = 0 for k < i, and these entries are stored zeros
    both,
};

// C += alpha A B.
void add_product(double alpha, ConstColumns A, RightFactor B, Columns C, PackBuffers& buffers,
                 Triangle triangle = Triangle::none);
void add_product(double alpha, const PackedLeft& A, RightFactor B, Columns C, PackBuffers& buffers);

// Factors with sizes of this multiple need no packing while they are small.
inline constexpr std::int64_t dense_multiple = 8;
inline std::int64_t round_up_to_dense(std::int64_t n) {
    return (n + dense_multiple - 1) / dense_multiple * dense_multiple;
}

// Entries from one column to the next: columns a multiple of 512 bytes apart would share few sets
// of the cache.
inline std::int64_t stride_for(std::int64_t rows) {
    return rows % 64 == 0 ? rows + dense_multiple : rows;
}

// From the lower triangle of A, whose size is a multiple of dense_multiple: L with L L^T = A in its
// place, and U = L^-T, zeros below the diagonal included. False if A is not positive definite.
// 2 n^3 / 3 flops.
bool factor_positive(Columns A, Columns U, PackBuffers& buffers);

// y = U^T x and y = U x for an upper triangle with stored zeros, its size as above.
void multiply_upper_transposed(ConstColumns U, const double* x, double* y);
void multiply_upper(ConstColumns U, const double* x, double* y);

// P A = L U with partial pivoting in the place of A; row i was exchanged with row pivots[i].
void factor_general(Columns A, std::int64_t* pivots, PackBuffers& buffers);
// Solves A x = b in the place of b.
void solve_general(ConstColumns factors, const std::int64_t* pivots, double* b);

}  // namespace cliquesim
