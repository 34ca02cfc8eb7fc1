// The Newton system by exact elimination: dense Cholesky factors of the blocks.
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <span>
#include <vector>

#include "batches/batches.hpp"
#include "batches/newton_system.hpp"
#include "batches/similarity_operator.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

// With W_b = L_b^-1 (A_b = L_b L_b^T), P_b = A_b^-1 - t_b t_b^T / (1^T t_b) and t_b = A_b^-1 1, the
// sum s of the dx_b solves (I + sum_b P_b Q) s = sum_b (P_b f_b + ...): one K x K system. factor()
// costs B K^3 flops in K x K blocks, solve() 2 B K^2; B K^2 numbers are kept.
class DenseNewton final : public NewtonSystem {
  public:
    using Matrix = Eigen::MatrixXd;

    DenseNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                const CoverageView& by_sample, std::int64_t batches, ThreadPool& pool);

    bool factor(std::span<const double> batch_curvature, std::span<const double> total_curvature,
                std::span<const double> diagonal) override;

    // With steps of iterative refinement against the unfactored system.
    void solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
               std::span<double> dnu) override;

  private:
    bool factor_block(std::int64_t b, Matrix& work);
    void accumulate(const Matrix& work, std::int64_t b, Matrix& sum) const;
    void add_coverage(const double* curvature, Matrix& lower) const;
    void solve_once(std::span<const double> f, std::span<const double> e, std::span<double> dx,
                    std::span<double> dnu);
    // (f, e) minus the system times (dx, dnu); returns the largest entry relative to (f, e).
    double residual(std::span<const double> f, std::span<const double> e,
                    std::span<const double> dx, std::span<const double> dnu);
    void coverage_product(const double* curvature, const double* x, double* y,
                          std::vector<double>& cover) const;

    const BatchProblem& problem_;
    const CoverageView& by_sample_;
    std::int64_t batches_, cliques_, samples_;
    bool coupled_;
    ThreadPool& pool_;
    std::span<const double> batch_curvature_, total_curvature_, diagonal_;

    Matrix twice_similarity_;
    std::vector<Matrix> inverse_factors_;  // W_b, lower triangular
    Matrix solved_ones_;                   // t_b in columns
    Eigen::VectorXd ones_product_;         // 1^T t_b
    std::vector<Matrix> partial_sums_;     // of P_b over fixed groups of batches
    std::vector<Matrix> work_;             // per worker
    std::vector<std::vector<double>> cover_;
    Matrix coupling_;                      // Q
    Eigen::PartialPivLU<Matrix> reduced_;  // I + sum_b P_b Q
    AlignedVector rest_f_, rest_e_, correction_x_, correction_nu_;
    std::vector<double> block_norms_;
};

}  // namespace cliquesim
