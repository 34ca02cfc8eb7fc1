#include "batches/dense_newton.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

using Matrix = DenseNewton::Matrix;
using Vector = Eigen::Map<Eigen::VectorXd>;
using ConstVector = Eigen::Map<const Eigen::VectorXd>;

constexpr Eigen::Index panel = 64;
// Groups of batches whose sums are formed apart; a constant, so that the order of summation does
// not depend on the number of threads.
constexpr std::int64_t max_groups = 16;

// Overwrites the lower triangle L with its inverse, panel by panel from the right: about K^3 / 3
// flops, where a solve against the identity would take K^3.
void invert_lower(Matrix& lower) {
    const Eigen::Index n = lower.rows();
    for (Eigen::Index begin = (n - 1) / panel * panel; begin >= 0; begin -= panel) {
        const Eigen::Index width = std::min(panel, n - begin), below = n - begin - width;
        auto corner = lower.block(begin, begin, width, width);
        Matrix inverse = Matrix::Identity(width, width);
        corner.template triangularView<Eigen::Lower>().solveInPlace(inverse);
        corner = inverse;
        if (below == 0) continue;
        // The block below the corner: -W_below L_below,corner W_corner.
        const Matrix left = lower.block(begin + width, begin, below, width) * inverse;
        lower.block(begin + width, begin, below, width).noalias() =
            -(lower.block(begin + width, begin + width, below, below)
                  .template triangularView<Eigen::Lower>() *
              left);
    }
}

}  // namespace

DenseNewton::DenseNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                         const CoverageView& by_sample, std::int64_t batches, ThreadPool& pool)
    : problem_(problem),
      by_sample_(by_sample),
      batches_(batches),
      cliques_(problem.coverage.cliques),
      samples_(problem.coverage.samples),
      coupled_(problem.lambda2 > 0 && problem.coverage.samples > 0),
      pool_(pool),
      twice_similarity_(2.0 * similarity.dense()),
      inverse_factors_(batches),
      solved_ones_(cliques_, batches),
      ones_product_(batches),
      work_(pool.size()),
      cover_(pool.size(), std::vector<double>(samples_)),
      rest_f_(batches * cliques_),
      rest_e_(batches),
      correction_x_(batches * cliques_),
      correction_nu_(batches),
      block_norms_(batches) {
    if (coupled_) {
        partial_sums_.assign(std::min(max_groups, batches), Matrix(cliques_, cliques_));
        coupling_.resize(cliques_, cliques_);
    }
}

void DenseNewton::add_coverage(const double* curvature, Matrix& lower) const {
    for (std::int64_t n = 0; n < samples_; ++n) {
        const auto holders = by_sample_.of(n);
        for (std::size_t i = 0; i < holders.size(); ++i) {
            for (std::size_t j = 0; j <= i; ++j) lower(holders[i], holders[j]) += curvature[n];
        }
    }
}

bool DenseNewton::factor_block(std::int64_t b, Matrix& work) {
    work = twice_similarity_;
    add_coverage(batch_curvature_.data() + b * samples_, work);
    work.diagonal() += ConstVector(diagonal_.data() + b * cliques_, cliques_);
    const Eigen::LLT<Eigen::Ref<Matrix>> factorization(work);
    if (factorization.info() != Eigen::Success) return false;
    work.triangularView<Eigen::StrictlyUpper>().setZero();
    invert_lower(work);
    inverse_factors_[b] = work;
    const Matrix& W = inverse_factors_[b];
    const Eigen::VectorXd forward =
        W.triangularView<Eigen::Lower>() * Eigen::VectorXd::Ones(cliques_);
    solved_ones_.col(b).noalias() = W.transpose().triangularView<Eigen::Upper>() * forward;
    ones_product_(b) = forward.squaredNorm();
    return std::isfinite(ones_product_(b)) && ones_product_(b) > 0;
}

// Adds the lower triangle of P_b = W^T W - t t^T / (1^T t) to `sum`.
void DenseNewton::accumulate(const Matrix& W, std::int64_t b, Matrix& sum) const {
    for (Eigen::Index begin = 0; begin < cliques_; begin += panel) {
        const Eigen::Index width = std::min<Eigen::Index>(panel, cliques_ - begin);
        const Eigen::Index rest = cliques_ - begin;
        sum.block(begin, 0, width, begin + width).noalias() +=
            W.block(begin, begin, rest, width).transpose() * W.block(begin, 0, rest, begin + width);
    }
    sum.selfadjointView<Eigen::Lower>().rankUpdate(solved_ones_.col(b), -1.0 / ones_product_(b));
}

bool DenseNewton::factor(std::span<const double> batch_curvature,
                         std::span<const double> total_curvature,
                         std::span<const double> diagonal) {
    batch_curvature_ = batch_curvature;
    total_curvature_ = total_curvature;
    diagonal_ = diagonal;
    const std::int64_t groups = coupled_ ? std::ssize(partial_sums_) : batches_;
    std::vector<std::uint8_t> positive(groups, 1);
    pool_.parallel_for(groups, [&](std::int64_t group, int worker) {
        if (coupled_) partial_sums_[group].setZero();
        for (std::int64_t b = group; b < batches_; b += groups) {
            if (!factor_block(b, work_[worker])) {
                positive[group] = 0;
                return;
            }
            if (coupled_) accumulate(inverse_factors_[b], b, partial_sums_[group]);
        }
    });
    if (std::ranges::find(positive, 0) != positive.end()) return false;
    if (!coupled_) return true;

    Matrix& sum = work_[0];
    sum = partial_sums_[0];
    for (std::size_t group = 1; group < partial_sums_.size(); ++group) sum += partial_sums_[group];
    sum.triangularView<Eigen::StrictlyUpper>() = sum.transpose();
    coupling_.setZero();
    add_coverage(total_curvature_.data(), coupling_);
    coupling_.triangularView<Eigen::StrictlyUpper>() = coupling_.transpose();
    Matrix reduced = Matrix::Identity(cliques_, cliques_);
    reduced.noalias() += sum * coupling_;
    reduced_.compute(reduced);
    return true;
}

void DenseNewton::solve_once(std::span<const double> f, std::span<const double> e,
                             std::span<double> dx, std::span<double> dnu) {
    Eigen::VectorXd shift = Eigen::VectorXd::Zero(cliques_);
    // Each batch on its own with f_b - shift, into dx and dnu.
    const auto solve_blocks = [&] {
        pool_.parallel_for(batches_, [&](std::int64_t b, int) {
            const Matrix& W = inverse_factors_[b];
            const Eigen::VectorXd rest = ConstVector(f.data() + b * cliques_, cliques_) - shift;
            const Eigen::VectorXd forward = W.triangularView<Eigen::Lower>() * rest;
            Vector x(dx.data() + b * cliques_, cliques_);
            x.noalias() = W.transpose().triangularView<Eigen::Upper>() * forward;
            dnu[b] = (x.sum() - e[b]) / ones_product_(b);
            x -= dnu[b] * solved_ones_.col(b);
        });
    };
    solve_blocks();
    if (!coupled_) return;
    Eigen::VectorXd sum = Eigen::VectorXd::Zero(cliques_);
    for (std::int64_t b = 0; b < batches_; ++b) {
        sum += ConstVector(dx.data() + b * cliques_, cliques_);
    }
    shift.noalias() = coupling_ * reduced_.solve(sum);
    solve_blocks();
}

void DenseNewton::coverage_product(const double* curvature, const double* x, double* y,
                                   std::vector<double>& cover) const {
    std::fill(cover.begin(), cover.end(), 0.0);
    for (std::int64_t k = 0; k < cliques_; ++k) {
        for (const std::int64_t n : problem_.coverage.of(k)) cover[n] += x[k];
    }
    for (std::int64_t n = 0; n < samples_; ++n) cover[n] *= curvature[n];
    for (std::int64_t k = 0; k < cliques_; ++k) {
        for (const std::int64_t n : problem_.coverage.of(k)) y[k] += cover[n];
    }
}

double DenseNewton::residual(std::span<const double> f, std::span<const double> e,
                             std::span<const double> dx, std::span<const double> dnu) {
    AlignedVector shared(cliques_, 0.0);
    if (coupled_) {
        std::vector<double> sum(cliques_, 0.0);
        for (std::int64_t b = 0; b < batches_; ++b) {
            for (std::int64_t k = 0; k < cliques_; ++k) sum[k] += dx[b * cliques_ + k];
        }
        coverage_product(total_curvature_.data(), sum.data(), shared.data(), cover_[0]);
    }
    pool_.parallel_for(batches_, [&](std::int64_t b, int worker) {
        const ConstVector x(dx.data() + b * cliques_, cliques_);
        Vector rest(rest_f_.data() + b * cliques_, cliques_);
        rest.noalias() = twice_similarity_ * x;
        coverage_product(batch_curvature_.data() + b * samples_, x.data(), rest.data(),
                         cover_[worker]);
        rest += ConstVector(diagonal_.data() + b * cliques_, cliques_).cwiseProduct(x);
        rest.array() += dnu[b];
        rest += ConstVector(shared.data(), cliques_);
        rest = ConstVector(f.data() + b * cliques_, cliques_) - rest;
        rest_e_[b] = e[b] - x.sum();
        block_norms_[b] = rest.lpNorm<Eigen::Infinity>();
    });
    double scale = 1e-300;
    for (const double value : f) scale = std::max(scale, std::abs(value));
    return *std::max_element(block_norms_.begin(), block_norms_.end()) / scale;
}

void DenseNewton::solve(std::span<const double> f, std::span<const double> e, std::span<double> dx,
                        std::span<double> dnu) {
    solve_once(f, e, dx, dnu);
    double error = residual(f, e, dx, dnu);
    for (int step = 0; step < 3 && error > 1e-12; ++step) {
        solve_once(rest_f_, rest_e_, correction_x_, correction_nu_);
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += correction_x_[i];
        for (std::size_t b = 0; b < dnu.size(); ++b) dnu[b] += correction_nu_[b];
        const double better = residual(f, e, dx, dnu);
        if (better > 0.5 * error) break;  // rounding is reached
        error = better;
    }
}

}  // namespace cliquesim
