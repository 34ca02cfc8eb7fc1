// The Newton system by projected conjugate gradients: for more cliques than dense blocks allow.
#pragma once

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
// which the formula of Woodbury inverts: what a few columns V leave of S', and the overlaps of
// cliques, are all that is left to the iteration. With P columns factor() costs B K P^2 flops, a
// step O(B (K P + nnz)) and a product with S'.
class IterativeNewton final : public NewtonSystem {
  public:
    // A direction's error, in the norm of the preconditioner, is relative_tolerance of the
    // right-hand side; the next direction takes it on from there.
    IterativeNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                    const CoverageView& by_sample, std::int64_t batches, double relative_tolerance,
                    ThreadPool& pool);

    bool factor(std::span<const double> batch_curvature, std::span<const double> total_curvature,
                std::span<const double> diagonal) override;
    void solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
               std::span<double> dnu) override;
    std::int64_t inner_iterations() const override { return steps_; }

  private:
    struct Worker {
        SimilarityOperator::Workspace product;
        AlignedVector scaled, inner, forward;  // V^T D^-1, (P, P), (P)
    };

    // (K, B), one column for each batch.
    Columns matrix(AlignedVector& storage) const {
        return {storage.data(), cliques_, batches_, cliques_};
    }
    Columns inverse_factor(std::int64_t b);

    bool factor_batch(std::int64_t b, Worker& worker);
    // out = the system's matrix times X.
    void multiply(AlignedVector& X, AlignedVector& out);
    void multiply_batch(std::int64_t b, const double* x, double* y);
    void add_coupling(AlignedVector& out);
    // out_b = M_b^-1 in_b for a few batches from `first` on, on the calling thread.
    void precondition(std::int64_t first, ConstColumns in, Columns out, Worker& worker);
    // Calls body(first, count, worker) for all batches, a few at a time.
    template <typename Body>
    void for_each_chunk(const Body& body);
    // Preconditioned residual with row sums 0. The multipliers that this takes stay in nu_.
    void project(std::span<const double> residual, AlignedVector& out);
    // residual_ = F - the system's matrix times x.
    void set_residual(std::span<const double> f, AlignedVector& x);
    void start_with_row_sums(std::span<const double> f, std::span<const double> e,
                             AlignedVector& x);
    double dot(std::span<const double> a, std::span<const double> b);

    const BatchProblem& problem_;
    const SimilarityOperator& similarity_;
    const CoverageView& by_sample_;
    const std::int64_t batches_, cliques_, samples_;
    const std::int64_t rank_, stride_;  // padded P; entries from one column to the next
    const bool coupled_;
    const double relative_tolerance_;
    ThreadPool& pool_;
    std::span<const double> batch_curvature_, total_curvature_, diagonal_;

    AlignedVector inverse_diagonal_;    // of M_b without V, (K, B)
    AlignedVector inverse_factors_;     // U_b U_b^T = (1/2 I + V^T D_b^-1 V)^-1
    AlignedVector solved_ones_;         // M_b^-1 1, (K, B)
    std::vector<double> ones_product_;  // 1^T M_b^-1 1
    std::vector<std::uint8_t> positive_;
    const ConstColumns factor_transposed_;         // V^T
    const PackedLeft packed_, packed_transposed_;  // V and V^T
    AlignedVector remainder_;                      // diagonal of S' - V V^T
    AlignedVector x_, residual_, direction_, product_, preconditioned_;
    AlignedVector cover_;  // (N, B)
    AlignedVector shared_, total_, nu_;
    std::vector<double> partial_;
    std::vector<Worker> workers_;
    std::int64_t steps_ = 0;
};

}  // namespace cliquesim
