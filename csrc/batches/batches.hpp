// Selection of mutually consistent batches of cliques, Sect. 2.3, Eq. (1) to (6).
//
// X in {0,1}^(B x K) says which of K cliques are in which of B batches, S' (K x K) how similar two
// cliques are, C in {0,1}^(K x N) which samples a clique holds:
//
//   tr(X S' X^T) - tr(X diag(S') X^T) - lambda1 sum_b ||x_b C||_p^p - lambda2 ||1 X C||_p^p    (1)
//
// subject to X 1 = r (2).
#pragma once

#include <cstdint>
#include <vector>

#include "batches/coverage.hpp"
#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim {

struct BatchProblem {
    MatrixView<const double> similarity;  // S', symmetric
    CoverageView coverage;                // C after the merging of equal columns
    double lambda1 = 0;
    double lambda2 = 0;
    double p = 1.0 / 16;
    double smoothing = 0;  // eps of g_eps; 0 is the printed t^p
};

// The terms of Eq. (1), without lambda and sign.
struct ObjectiveTerms {
    double similarity = 0;      // tr(X S' X^T) - tr(X diag(S') X^T)
    double batch_coverage = 0;  // sum_b ||x_b C||_p^p
    double total_coverage = 0;  // ||1 X C||_p^p
};

// For X (B, K) with entries in [0, 1]. O(B (K^2 + nnz)), parallel over batches.
ObjectiveTerms objective_terms(const BatchProblem& problem, MatrixView<const double> X,
                               const Context& context);

// Batches as lists: `cliques` holds, start by start and batch by batch, the r cliques in ascending
// order.
struct DiscreteBatches {
    std::int64_t starts = 0;
    std::int64_t batches = 0;
    std::int64_t cliques_per_batch = 0;
    std::vector<std::int64_t> cliques;
    std::vector<double> objectives;   // Eq. (1) of each start
    std::vector<std::int64_t> swaps;  // accepted swaps of each start
    bool complete = true;             // false: the time limit cut the search short
};

// Greedy construction: batch after batch gets its r-th clique before any gets its (r + 1)-th; each
// time the clique with the smallest increase of Eq. (1), ties to the smaller index. Batch b of
// start t begins with clique first(t, b), or greedily where that is -1. O(B r (K + nnz)) per start,
// parallel over starts.
DiscreteBatches greedy_batches(const BatchProblem& problem, MatrixView<const std::int64_t> first,
                               std::int64_t cliques_per_batch, const Context& context);

struct SwapOptions {
    std::int64_t kicks = 0;  // perturbations of a local optimum, kept when they end lower
    std::uint64_t seed = 0;
    double time_limit = 0;  // seconds; 0: none
};

// Local search on Eq. (1): in each batch in turn the exchange of one member for one other clique
// that lowers it most, until none does. O(nnz + r K) per batch visited. `starts` holds cliques as
// DiscreteBatches does, one row of B r per start; parallel over starts.
DiscreteBatches swap_batches(const BatchProblem& problem, MatrixView<const std::int64_t> starts,
                             std::int64_t cliques_per_batch, const SwapOptions& options,
                             const Context& context);

// How the Newton system is solved: by dense factors of its blocks, or by conjugate gradients
// preconditioned with a low-rank factor of S'.
enum class Regime { choose, dense, iterative };

enum class SolveStatus { solved, almost_solved, max_iterations, time_limit, numerical_error };

struct RelaxedOptions {
    double tolerance = 1e-8;
    int max_iterations = 100;
    double time_limit = 0;  // seconds; 0: none
    Regime regime = Regime::choose;
};

// One row per iteration of the interior-point method.
struct RelaxedLog {
    double objective, primal_residual, dual_residual, gap, barrier, step;
};

struct RelaxedSolution {
    std::vector<double> X;  // (B, K)
    SolveStatus status = SolveStatus::numerical_error;
    double objective = 0;        // Eq. (5)
    double primal_residual = 0;  // max |X 1 - r|
    double dual_residual = 0;    // max |gradient of the Lagrangian|, relative to the gradient's
    double gap = 0;              // sum of the complementarity products, relative to the objective
    int iterations = 0;
    Regime regime = Regime::dense;
    std::int64_t rank = 0;              // of the factor of S'; 0 if none was made
    bool low_rank = false;              // the factor is all of S'
    std::int64_t inner_iterations = 0;  // of conjugate gradients
    double seconds_factor = 0, seconds_solve = 0, seconds_total = 0;
    std::vector<RelaxedLog> log;
};

// The convex problem of one CCCP step, Eq. (5)-(6): min over X in [0,1]^(B x K), X 1 = r, of
//
//   tr(X S' X^T) - <X, linear> - lambda1 sum_b sum_n w_n g((x_b C)_n) - lambda2 sum_n w_n
//   g((1XC)_n)
//
// with S' positive semi-definite and 0 < r < K. Primal-dual interior point with Mehrotra's
// predictor-corrector, parallel over batches; per iteration O(B K^3) in the dense regime, and some
// steps of O(B (min(K^2, K rank S') + nnz)) in the iterative one. `start` (B, K) is where to begin,
// moved into the interior. No (B K) x (B K) matrix is ever made.
RelaxedSolution solve_relaxed(const BatchProblem& problem, MatrixView<const double> linear,
                              MatrixView<const double> start, double cliques_per_batch,
                              const RelaxedOptions& options, const Context& context);

}  // namespace cliquesim
