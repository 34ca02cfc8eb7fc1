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
// scatter += sum_i (x_i - shift)(x_i - shift)^T. Float32 products of a few hundred rows, summed in
// float64. O(N D^2).
void add_moments(MatrixView<const float> x, std::span<const float> shift, std::span<double> sum,
                 MatrixView<double> scatter, const Context& context);

// Covariance that depends on the offset between two cells only: every block is the mean over all
// pairs of cells with its offset (Hariharan et al. 2012). Both matrices are (rows cols channels)
// square and symmetric. Not positive semi-definite in general. O(D^2).
void average_over_offsets(MatrixView<const double> covariance, std::int64_t rows, std::int64_t cols,
                          std::int64_t channels, MatrixView<double> stationary,
                          const Context& context);

// Replaces the lower triangle of `a` by its Cholesky factor L, a = L L^T; the upper triangle is
// scratch. False if `a` is not positive definite. O(D^3 / 3).
bool cholesky(MatrixView<double> a, const Context& context);

// out_i = L^-1 (x_i - mean), which is R^-T (x_i - mean) with R = L^T. O(N D^2).
void whiten(MatrixView<const float> x, std::span<const float> mean, MatrixView<const float> factor,
            MatrixView<float> out, const Context& context);

}  // namespace cliquesim::whitening
