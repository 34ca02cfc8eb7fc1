#include "batches/dense_kernels.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstring>

namespace cliquesim {

namespace {

#if defined(__AVX512F__)
constexpr std::int64_t width = 8, tile_cols = 8;
#elif defined(__AVX__)
constexpr std::int64_t width = 4, tile_cols = 4;
#else
constexpr std::int64_t width = 2, tile_cols = 4;
#endif
constexpr std::int64_t tile_vectors = 3, tile_rows = tile_vectors * width;
typedef double Lanes __attribute__((vector_size(width * sizeof(double))));

// Blocks of the packed product: a panel of the right factor stays in the first cache, the left
// block in the second.
constexpr std::int64_t block_depth = 256, block_rows = 8 * tile_rows, block_cols = 256;
constexpr std::int64_t direct_entries = 24 * 1024;  // of a left factor that is read where it is
constexpr std::int64_t outer_panel = 96, inner_panel = dense_multiple;

Lanes load(const double* from) {
    Lanes value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

void store(double* to, Lanes value) {
    std::memcpy(to, &value, sizeof(value));
}

// C(R lanes x tile_cols) += alpha sum_k a(:, k) b(k, :).
template <int R>
void tile_product(std::int64_t depth, const double* a, std::int64_t a_stride, const double* b,
                  std::int64_t b_stride, double alpha, double* c, std::int64_t c_stride) {
    Lanes sum[tile_cols][R] = {};
    for (std::int64_t k = 0; k < depth; ++k, a += a_stride, b += b_stride) {
        Lanes left[R];
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) left[r] = load(a + r * width);
#pragma GCC unroll 8
        for (int j = 0; j < tile_cols; ++j) {
#pragma GCC unroll 3
            for (int r = 0; r < R; ++r) sum[j][r] += left[r] * b[j];
        }
    }
    for (int j = 0; j < tile_cols; ++j)
        for (int r = 0; r < R; ++r) {
            double* to = c + j * c_stride + r * width;
            store(to, load(to) + alpha * sum[j][r]);
        }
}

using TileProduct = void (*)(std::int64_t, const double*, std::int64_t, const double*, std::int64_t,
                             double, double*, std::int64_t);

// Any number of rows and columns up to a whole tile, of which the factors hold padding.
void tile_product(std::int64_t rows, std::int64_t cols, std::int64_t depth, const double* a,
                  std::int64_t a_stride, const double* b, std::int64_t b_stride, double alpha,
                  double* c, std::int64_t c_stride) {
    constexpr TileProduct kernels[] = {tile_product<1>, tile_product<2>, tile_product<3>};
    const TileProduct kernel = kernels[(rows + width - 1) / width - 1];
    if (rows % width == 0 && cols == tile_cols) {
        kernel(depth, a, a_stride, b, b_stride, alpha, c, c_stride);
        return;
    }
    alignas(64) double whole[tile_rows * tile_cols] = {};
    kernel(depth, a, a_stride, b, b_stride, alpha, whole, tile_rows);
    for (std::int64_t j = 0; j < cols; ++j)
        for (std::int64_t i = 0; i < rows; ++i) c[j * c_stride + i] += whole[j * tile_rows + i];
}

void pack_left(ConstColumns A, double* out) {
    for (std::int64_t i = 0; i < A.rows; i += tile_rows) {
        const std::int64_t rows = std::min(tile_rows, A.rows - i);
        for (std::int64_t k = 0; k < A.cols; ++k, out += tile_rows) {
            const double* from = A.col(k) + i;
            if (rows == tile_rows) {
#pragma GCC unroll 3
                for (int r = 0; r < tile_vectors; ++r)
                    store(out + r * width, load(from + r * width));
            } else {
                std::copy_n(from, rows, out);
                std::fill_n(out + rows, tile_rows - rows, 0.0);
            }
        }
    }
}

void pack_right(RightFactor B, std::int64_t depth, double* out) {
    for (std::int64_t j = 0; j < B.cols; j += tile_cols) {
        const std::int64_t cols = std::min(tile_cols, B.cols - j);
        const double* from = B.data + j * B.col_stride;
        for (std::int64_t k = 0; k < depth; ++k, from += B.depth_stride, out += tile_cols) {
            for (std::int64_t c = 0; c < cols; ++c) out[c] = from[c * B.col_stride];
            for (std::int64_t c = cols; c < tile_cols; ++c) out[c] = 0;
        }
    }
}

bool has(Triangle triangle, Triangle part) {
    return triangle == part || triangle == Triangle::both;
}

// One pass over the depths [begin, begin + depth) of a product whose factors' panels of tile_rows
// rows and tile_cols columns begin every a_panel and b_panel entries. `first` is the row of C.
struct Pass {
    double alpha;
    std::int64_t begin, depth;
    const double* a;
    std::int64_t a_panel, a_stride;
    const double* b;
    std::int64_t b_panel, b_stride;
    Triangle triangle;

    void run(std::int64_t first_row, std::int64_t first_col, Columns C) const {
        for (std::int64_t j = 0; j < C.cols; j += tile_cols) {
            const double* right = b + j / tile_cols * b_panel;
            const std::int64_t cols = std::min(tile_cols, C.cols - j);
            for (std::int64_t i = 0; i < C.rows; i += tile_rows) {
                const std::int64_t rows = std::min(tile_rows, C.rows - i);
                const std::int64_t row = first_row + i;
                if (has(triangle, Triangle::lower_result) && row + rows <= first_col + j) continue;
                std::int64_t skip = 0;
                if (has(triangle, Triangle::upper_left))
                    skip = std::clamp<std::int64_t>(row - begin, 0, depth);
                if (skip == depth) continue;
                tile_product(rows, cols, depth - skip,
                             a + i / tile_rows * a_panel + skip * a_stride, a_stride,
                             right + skip * b_stride, b_stride, alpha, &C(i, j), C.stride);
            }
        }
    }
};

// L(8 x 8) of the lower triangle of A in its place; reciprocals of its diagonal. False if not
// positive definite.
bool factor_corner(Columns A, double* reciprocal) {
    for (std::int64_t c = 0; c < inner_panel; ++c) {
        double pivot = A(c, c);
        if (!(pivot > 0) || !std::isfinite(pivot)) return false;
        pivot = std::sqrt(pivot);
        reciprocal[c] = 1 / pivot;
        A(c, c) = pivot;
        for (std::int64_t i = c + 1; i < inner_panel; ++i) A(i, c) *= reciprocal[c];
        for (std::int64_t j = c + 1; j < inner_panel; ++j)
            for (std::int64_t i = j; i < inner_panel; ++i) A(i, j) -= A(i, c) * A(j, c);
    }
    return true;
}

// Solves X L^T = T in the place of T (rows x 8), rows a multiple of 8.
void solve_panel(ConstColumns L, const double* reciprocal, Columns T) {
    for (std::int64_t i = 0; i < T.rows; i += width) {
        Lanes x[inner_panel];
#pragma GCC unroll 8
        for (int c = 0; c < inner_panel; ++c) {
            Lanes value = load(&T(i, c));
#pragma GCC unroll 8
            for (int before = 0; before < c; ++before) value -= x[before] * L(c, before);
            x[c] = value * reciprocal[c];
            store(&T(i, c), x[c]);
        }
    }
}

}  // namespace

PackBuffers::PackBuffers() : left_(block_rows * block_depth), right_(block_cols * block_depth) {}

void add_product(double alpha, ConstColumns A, RightFactor B, Columns C, PackBuffers& buffers,
                 Triangle triangle) {
    const std::int64_t depth = A.cols;
    if (A.rows % width == 0 && B.cols % tile_cols == 0 && B.col_stride == 1 &&
        A.rows * depth <= direct_entries) {
        Pass{alpha,    0,      depth,     A.data,         tile_rows,
             A.stride, B.data, tile_cols, B.depth_stride, triangle}
            .run(0, 0, C);
        return;
    }
    for (std::int64_t j = 0; j < B.cols; j += block_cols) {
        const std::int64_t cols = std::min(block_cols, B.cols - j);
        for (std::int64_t k = 0; k < depth; k += block_depth) {
            const std::int64_t deep = std::min(block_depth, depth - k);
            const double* corner = B.data + j * B.col_stride + k * B.depth_stride;
            pack_right({corner, cols, B.depth_stride, B.col_stride}, deep, buffers.right());
            for (std::int64_t i = 0; i < A.rows; i += block_rows) {
                const std::int64_t rows = std::min(block_rows, A.rows - i);
                if (has(triangle, Triangle::lower_result) && i + rows <= j) continue;
                if (has(triangle, Triangle::upper_left) && i >= k + deep) break;
                pack_left(A.block(i, k, rows, deep), buffers.left());
                Pass{alpha,
                     k,
                     deep,
                     buffers.left(),
                     tile_rows * deep,
                     tile_rows,
                     buffers.right(),
                     tile_cols * deep,
                     tile_cols,
                     triangle}
                    .run(i, j, C.block(i, j, rows, cols));
            }
        }
    }
}

PackedLeft::PackedLeft(ConstColumns A)
    : rows_(A.rows),
      cols_(A.cols),
      panels_((A.rows + tile_rows - 1) / tile_rows * tile_rows * A.cols) {
    pack_left(A, panels_.data());
}

void add_product(double alpha, const PackedLeft& A, RightFactor B, Columns C,
                 PackBuffers& buffers) {
    const std::int64_t depth = A.cols();
    for (std::int64_t j = 0; j < B.cols; j += block_cols) {
        const std::int64_t cols = std::min(block_cols, B.cols - j);
        for (std::int64_t k = 0; k < depth; k += block_depth) {
            const std::int64_t deep = std::min(block_depth, depth - k);
            const double* corner = B.data + j * B.col_stride + k * B.depth_stride;
            pack_right({corner, cols, B.depth_stride, B.col_stride}, deep, buffers.right());
            for (std::int64_t i = 0; i < A.rows(); i += block_rows) {
                const std::int64_t rows = std::min(block_rows, A.rows() - i);
                Pass{alpha,
                     k,
                     deep,
                     A.data() + i * depth + k * tile_rows,
                     tile_rows * depth,
                     tile_rows,
                     buffers.right(),
                     tile_cols * deep,
                     tile_cols,
                     Triangle::none}
                    .run(i, j, C.block(i, j, rows, cols));
            }
        }
    }
}

// Left-looking: what is right of a panel is not touched before its turn. U L^T = I gives U's
// columns by the same solve that gives L's rows.
bool factor_positive(Columns A, Columns U, PackBuffers& buffers) {
    const std::int64_t n = A.rows;
    for (std::int64_t outer = 0; outer < n; outer += outer_panel) {
        const std::int64_t end = std::min(outer + outer_panel, n);
        for (std::int64_t j = outer; j < end; ++j) std::fill_n(U.col(j), n, 0.0);
        if (outer > 0) {
            const RightFactor left = transposed(A.block(outer, 0, end - outer, outer));
            add_product(-1, A.block(outer, 0, n - outer, outer), left,
                        A.block(outer, outer, n - outer, end - outer), buffers,
                        Triangle::lower_result);
            add_product(-1, U.block(0, 0, outer, outer), left,
                        U.block(0, outer, outer, end - outer), buffers, Triangle::upper_left);
        }
        for (std::int64_t j = outer; j < end; j += inner_panel) {
            const std::int64_t depth = j - outer, below = n - j - inner_panel;
            if (depth > 0) {
                const RightFactor left = transposed(A.block(j, outer, inner_panel, depth));
                add_product(-1, A.block(j, outer, n - j, depth), left,
                            A.block(j, j, n - j, inner_panel), buffers);
                add_product(-1, U.block(0, outer, j, depth), left, U.block(0, j, j, inner_panel),
                            buffers);
            }
            double reciprocal[inner_panel];
            const Columns corner = A.block(j, j, inner_panel, inner_panel);
            if (!factor_corner(corner, reciprocal)) return false;
            solve_panel(corner, reciprocal, A.block(j + inner_panel, j, below, inner_panel));
            for (std::int64_t c = j; c < j + inner_panel; ++c) U(c, c) = 1;
            solve_panel(corner, reciprocal, U.block(0, j, j + inner_panel, inner_panel));
        }
    }
    return true;
}

namespace {

using Vector = Eigen::Map<Eigen::VectorXd>;
using ConstVector = Eigen::Map<const Eigen::VectorXd>;
using ConstPanel =
    Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, inner_panel>, 0, Eigen::OuterStride<>>;

ConstPanel upper_panel(ConstColumns U, std::int64_t j) {
    return {U.col(j), j + inner_panel, inner_panel, Eigen::OuterStride<>(U.stride)};
}

}  // namespace

void multiply_upper_transposed(ConstColumns U, const double* x, double* y) {
    for (std::int64_t j = 0; j < U.cols; j += inner_panel)
        Vector(y + j, inner_panel).noalias() =
            upper_panel(U, j).transpose() * ConstVector(x, j + inner_panel);
}

void multiply_upper(ConstColumns U, const double* x, double* y) {
    std::fill_n(y, U.rows, 0.0);
    for (std::int64_t j = 0; j < U.cols; j += inner_panel)
        Vector(y, j + inner_panel).noalias() += upper_panel(U, j) * ConstVector(x + j, inner_panel);
}

namespace {

// y -= factor x.
void subtract(std::int64_t count, double factor, const double* x, double* y) {
    for (std::int64_t i = 0; i < count; ++i) y[i] -= factor * x[i];
}

// Unblocked, on a few columns; exchanges the rows of these columns alone.
void factor_general_panel(Columns A, std::int64_t* pivots) {
    for (std::int64_t c = 0; c < A.cols; ++c) {
        std::int64_t pivot = c;
        for (std::int64_t i = c + 1; i < A.rows; ++i)
            if (std::abs(A(i, c)) > std::abs(A(pivot, c))) pivot = i;
        pivots[c] = pivot;
        if (A(pivot, c) == 0) continue;
        for (std::int64_t j = 0; j < A.cols; ++j) std::swap(A(c, j), A(pivot, j));
        const double reciprocal = 1 / A(c, c);
        for (std::int64_t i = c + 1; i < A.rows; ++i) A(i, c) *= reciprocal;
        for (std::int64_t j = c + 1; j < A.cols; ++j)
            subtract(A.rows - c - 1, A(c, j), A.col(c) + c + 1, A.col(j) + c + 1);
    }
}

}  // namespace

void factor_general(Columns A, std::int64_t* pivots, PackBuffers& buffers) {
    constexpr std::int64_t panel = 32;
    const std::int64_t n = A.cols;
    for (std::int64_t begin = 0; begin < n; begin += panel) {
        const std::int64_t end = std::min(begin + panel, n);
        factor_general_panel(A.block(begin, begin, n - begin, end - begin), pivots + begin);
        for (std::int64_t c = begin; c < end; ++c) pivots[c] += begin;
        for (std::int64_t j = 0; j < n; ++j) {
            if (j == begin) j = end;
            if (j == n) break;
            for (std::int64_t c = begin; c < end; ++c) std::swap(A(c, j), A(pivots[c], j));
            if (j < begin) continue;
            for (std::int64_t c = begin; c < end; ++c)
                subtract(end - c - 1, A(c, j), A.col(c) + c + 1, A.col(j) + c + 1);
        }
        add_product(-1, A.block(end, begin, n - end, end - begin),
                    plain(A.block(begin, end, end - begin, n - end)),
                    A.block(end, end, n - end, n - end), buffers);
    }
}

void solve_general(ConstColumns factors, const std::int64_t* pivots, double* b) {
    const std::int64_t n = factors.cols;
    for (std::int64_t i = 0; i < n; ++i) std::swap(b[i], b[pivots[i]]);
    for (std::int64_t j = 0; j < n; ++j)
        subtract(n - j - 1, b[j], factors.col(j) + j + 1, b + j + 1);
    for (std::int64_t j = n - 1; j >= 0; --j) {
        b[j] /= factors(j, j);
        subtract(j, b[j], factors.col(j), b);
    }
}

}  // namespace cliquesim
