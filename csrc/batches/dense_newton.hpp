// The Newton system by exact elimination: dense Cholesky factors of the blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "batches/batches.hpp"
#include "batches/dense_kernels.hpp"
#include "batches/newton_system.hpp"
#include "batches/similarity_operator.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

// With U_b = L_b^-T (A_b = L_b L_b^T), t_b = A_b^-1 1 and P_b = U_b U_b^T - t_b t_b^T / (1^T t_b),
// the sum s of the dx_b solves (I + sum_b P_b Q) s = sum_b (P_b f_b + ...): one K x K system.
// factor() costs B K^3 flops, solve() 4 B K^2; B K^2 numbers are kept. Blocks are padded with rows
// and columns of the identity.
class DenseNewton final : public NewtonSystem {
  public:
    DenseNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                const CoverageView& by_sample, std::int64_t batches, ThreadPool& pool);

    bool factor(std::span<const double> batch_curvature, std::span<const double> total_curvature,
                std::span<const double> diagonal) override;

    // With steps of iterative refinement against the unfactored system.
    void solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
               std::span<double> dnu) override;

  private:
    struct Worker {
        PackBuffers buffers;
        AlignedVector block;  // A_b, then L_b
        AlignedVector input, forward, output;
        std::vector<double> cover;  // (N)
    };

    Columns matrix(AlignedVector& storage, std::int64_t number = 0) const;
    double* solved_ones(std::int64_t b) { return solved_ones_.data() + b * size_; }
    // Parts of the curvature that coverage gives: onto a lower triangle, and times x onto y.
    void add_coverage(const double* curvature, Columns lower) const;
    void add_coverage_product(const double* curvature, const double* x, double* y,
                              std::vector<double>& cover) const;
    bool factor_block(std::int64_t b, Worker& worker);
    void accumulate(std::int64_t b, Worker& worker, Columns sum);
    void factor_coupling();
    // Each batch on its own, with f_b - shift_.
    void solve_blocks(std::span<const double> f, std::span<const double> e, std::span<double> dx,
                      std::span<double> dnu);
    void solve_once(std::span<const double> f, std::span<const double> e, std::span<double> dx,
                    std::span<double> dnu);
    void sum_batches(std::span<const double> dx);
    // (f, e) minus the system times (dx, dnu); returns the largest entry relative to (f, e).
    double residual(std::span<const double> f, std::span<const double> e,
                    std::span<const double> dx, std::span<const double> dnu);

    const BatchProblem& problem_;
    const CoverageView& by_sample_;
    const std::int64_t batches_, cliques_, samples_;
    const std::int64_t size_, stride_;  // padded K; entries from one column to the next
    const bool coupled_;
    ThreadPool& pool_;
    std::span<const double> batch_curvature_, total_curvature_, diagonal_;

    AlignedVector twice_similarity_;
    AlignedVector inverse_factors_;       // U_b, upper triangular
    AlignedVector solved_ones_;           // t_b
    std::vector<double> ones_product_;    // 1^T t_b
    std::vector<std::uint8_t> positive_;  // of each group of batches
    AlignedVector partial_sums_;          // of P_b over fixed groups of batches
    AlignedVector coupling_, reduced_;    // Q; factors of I + sum_b P_b Q
    std::vector<std::int64_t> pivots_;
    std::vector<Worker> workers_;
    AlignedVector sum_, shift_;
    AlignedVector rest_f_, rest_e_, correction_x_, correction_nu_;
    std::vector<double> block_norms_;
};

}  // namespace cliquesim
