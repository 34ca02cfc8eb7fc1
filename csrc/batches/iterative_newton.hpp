// The Newton system by projected conjugate gradients: for more cliques than dense blocks allow.
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

// Conjugate gradients on the directions with row sums 0, preconditioned block by block with
//
//   M_b = 2 V V^T + diag(d_b + C q_b + C q + remainder),    S' = V V^T + remainder,
//
// which the formula of Woodbury inverts: what V leaves of S', and the overlaps of cliques, are all
// that is left to the iteration. factor() costs B K R^2 flops, a step O(B (K R + nnz)).
class IterativeNewton final : public NewtonSystem {
  public:
    IterativeNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                    const CoverageView& by_sample, std::int64_t batches, ThreadPool& pool);

    bool factor(std::span<const double> batch_curvature, std::span<const double> total_curvature,
                std::span<const double> diagonal) override;
    void solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
               std::span<double> dnu) override;
    std::int64_t inner_iterations() const override { return steps_; }

  private:
    using Matrix = Eigen::MatrixXd;
    using Vector = Eigen::VectorXd;

    // out = the system's matrix times X, (K, B).
    void multiply(const Matrix& X, Matrix& out);
    // out_b = M_b^-1 in_b for a few batches from `first` on, on the calling thread.
    void precondition(std::int64_t first, const Eigen::Ref<const Matrix>& in,
                      Eigen::Ref<Matrix> out) const;
    // Calls body(first, count) for all batches, a few at a time.
    template <typename Body>
    void for_each_chunk(const Body& body);
    // Preconditioned residual with row sums 0. The multipliers that this takes stay in nu_.
    void project(const Matrix& residual, Matrix& out);
    double dot(const Matrix& a, const Matrix& b);

    const BatchProblem& problem_;
    const SimilarityOperator& similarity_;
    const CoverageView& by_sample_;
    const std::int64_t batches_, cliques_, samples_;
    const bool coupled_;
    ThreadPool& pool_;
    std::span<const double> batch_curvature_, total_curvature_, diagonal_;

    Matrix inverse_diagonal_;                // of M_b without V, (K, B)
    std::vector<Eigen::LLT<Matrix>> inner_;  // of 1/2 I + V^T D_b^-1 V
    Matrix solved_ones_;                     // M_b^-1 1
    Vector ones_product_;                    // 1^T M_b^-1 1
    Matrix x_, residual_, direction_, product_, preconditioned_;
    Matrix cover_;  // (N, B)
    Vector shared_, total_, nu_;
    std::vector<double> partial_;
    std::int64_t steps_ = 0;
};

}  // namespace cliquesim
