// The Newton system of Eq. (5)-(6): B blocks, coupled by the lambda2 term alone.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <vector>

namespace cliquesim {

// Eigen sums from the first aligned entry on: only memory that is always aligned alike gives the
// same bits in every run.
using AlignedVector = std::vector<double, Eigen::aligned_allocator<double>>;

// Solves, for dx (B, K) and dnu (B),
//
//   A_b dx_b + Q sum_b' dx_b' + 1 dnu_b = f_b,    1^T dx_b = e_b,
//   A_b = 2 S' + C diag(q_b) C^T + diag(d_b),     Q = C diag(q) C^T
class NewtonSystem {
  public:
    virtual ~NewtonSystem() = default;

    // q_b (B, N), q (N; unused when lambda2 is 0), d (B, K). False if a block is not positive
    // definite.
    virtual bool factor(std::span<const double> batch_curvature,
                        std::span<const double> total_curvature,
                        std::span<const double> diagonal) = 0;

    virtual void solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
                       std::span<double> dnu) = 0;

    // Steps of conjugate gradients so far; 0 for a direct method.
    virtual std::int64_t inner_iterations() const { return 0; }
};

}  // namespace cliquesim
