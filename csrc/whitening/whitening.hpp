// Moments of descriptors and their whitening by a regularised common covariance (LDA-HOG of
// Hariharan et al. 2012): phi = R^-T (h - mu), Sigma + lambda I = R^T R.
#pragma once

#include <cstdint>
#include <span>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim::whitening {

// Adds the rows of `x` to first and second moments about `shift` (a vector near the mean, so that
// float32 products lose nothing): sum += sum_i (x_i - shift), and the lower triangle of
// scatter += sum_i (x_i - shift)(x_i - shift)^T; above it lies scratch. Float32 products of a few
// hundred rows, summed in float64. O(N D^2).
// Returns the first row with NaN or an infinite value, after which the moments are of no use, or
// -1.
std::int64_t add_moments(MatrixView<const float> x, std::span<const float> shift,
                         std::span<double> sum, MatrixView<double> scatter, const Context& context);

// Covariance that depends on the offset between two cells only: every block is the mean over all
// pairs of cells with its offset (Hariharan et al. 2012). Both matrices are (rows cols channels)
// square and symmetric. Not positive semi-definite in general. O(D^2).
void average_over_offsets(MatrixView<const double> covariance, std::int64_t rows, std::int64_t cols,
                          std::int64_t channels, MatrixView<double> stationary,
                          const Context& context);

// Replaces the lower triangle of `a` by its Cholesky factor L, a = L L^T; the upper triangle is
// scratch. False if `a` is not positive definite. O(D^3 / 3).
bool cholesky(MatrixView<double> a, const Context& context);

// Writes the upper triangle of L^-T, L being the lower triangle of `factor`. O(D^3 / 3).
void invert_transposed(MatrixView<const double> factor, MatrixView<float> inverse,
                       const Context& context);

// out_i = (x_i - mean) P, P of D x K, in float32. Zeros at the lower end of P's columns, as of a
// triangular P, cost nothing. O(N D K), half of it for a triangular P.
// Returns the first row of x with NaN or an infinite value, or -1.
std::int64_t project(MatrixView<const float> x, std::span<const float> mean,
                     MatrixView<const float> projection, MatrixView<float> out,
                     const Context& context);

}  // namespace cliquesim::whitening
