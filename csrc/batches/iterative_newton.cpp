#include "batches/iterative_newton.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

constexpr int max_steps = 500;

// Of the preconditioner. More columns save few steps, and cost each of them more: on S' of any
// spectrum 32 were hardly worse than 256.
constexpr std::int64_t max_preconditioner_rank = 64;

// Batches per product; fixed, so that sums never depend on threads.
constexpr std::int64_t chunk = SimilarityOperator::max_columns;

using ConstVector = Eigen::Map<const Eigen::VectorXd>;

}  // namespace

IterativeNewton::IterativeNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                                 const CoverageView& by_sample, std::int64_t batches,
                                 double relative_tolerance, ThreadPool& pool)
    : problem_(problem),
      similarity_(similarity),
      by_sample_(by_sample),
      batches_(batches),
      cliques_(problem.coverage.cliques),
      samples_(problem.coverage.samples),
      rank_(round_up_to_dense(std::min(similarity.rank(), max_preconditioner_rank))),
      stride_(stride_for(rank_)),
      coupled_(problem.lambda2 > 0 && problem.coverage.samples > 0),
      relative_tolerance_(relative_tolerance),
      pool_(pool),
      inverse_factors_(batches * rank_ * stride_),
      ones_product_(batches),
      positive_(batches),
      factor_transposed_(similarity.factor_transposed().block(0, 0, rank_, cliques_)),
      packed_(similarity.factor().block(0, 0, cliques_, rank_)),
      packed_transposed_(factor_transposed_),
      remainder_(similarity.remainder(rank_)),
      cover_(samples_ * batches),
      shared_(cliques_),
      total_(samples_),
      nu_(batches),
      partial_(batches) {
    for (AlignedVector* each : {&inverse_diagonal_, &solved_ones_, &x_, &residual_, &direction_,
                                &product_, &preconditioned_})
        each->resize(cliques_ * batches);
    for (int worker = 0; worker < pool.size(); ++worker)
        workers_.push_back({similarity.workspace(), AlignedVector(rank_ * cliques_),
                            AlignedVector(rank_ * stride_), AlignedVector(rank_)});
}

Columns IterativeNewton::inverse_factor(std::int64_t b) {
    return {inverse_factors_.data() + b * rank_ * stride_, rank_, rank_, stride_};
}

template <typename Body>
void IterativeNewton::for_each_chunk(const Body& body) {
    pool_.parallel_for((batches_ + chunk - 1) / chunk, [&](std::int64_t c, int w) {
        body(c * chunk, std::min(chunk, batches_ - c * chunk), workers_[w]);
    });
}

bool IterativeNewton::factor(std::span<const double> batch_curvature,
                             std::span<const double> total_curvature,
                             std::span<const double> diagonal) {
    batch_curvature_ = batch_curvature;
    total_curvature_ = total_curvature;
    diagonal_ = diagonal;
    pool_.parallel_for(batches_,
                       [&](std::int64_t b, int w) { positive_[b] = factor_batch(b, workers_[w]); });
    return std::ranges::find(positive_, 0) == positive_.end();
}

bool IterativeNewton::factor_batch(std::int64_t b, Worker& worker) {
    const double* own = batch_curvature_.data() + b * samples_;
    const Columns scaled{worker.scaled.data(), rank_, cliques_, rank_};
    const ConstColumns Vt = factor_transposed_;
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double entry = diagonal_[b * cliques_ + k] + 2 * remainder_[k];
        for (const std::int64_t n : problem_.coverage.of(k))
            entry += own[n] + (coupled_ ? total_curvature_[n] : 0.0);
        const double inverse = inverse_diagonal_[b * cliques_ + k] = 1 / entry;
        for (std::int64_t r = 0; r < rank_; ++r) scaled(r, k) = inverse * Vt(r, k);
    }
    const Columns inner{worker.inner.data(), rank_, rank_, stride_};
    std::fill(worker.inner.begin(), worker.inner.end(), 0.0);
    for (std::int64_t r = 0; r < rank_; ++r) inner(r, r) = 0.5;
    add_product(1, Vt, transposed(scaled), inner, worker.product.buffers, Triangle::lower_result);
    if (!factor_positive(inner, inverse_factor(b), worker.product.buffers)) return false;
    const Columns solved = matrix(solved_ones_).block(0, b, cliques_, 1);
    const Columns ones = matrix(product_).block(0, b, cliques_, 1);
    std::fill_n(ones.data, cliques_, 1.0);
    precondition(b, ones, solved, worker);
    ones_product_[b] = ConstVector(solved.data, cliques_).sum();
    return std::isfinite(ones_product_[b]) && ones_product_[b] > 0;
}

void IterativeNewton::precondition(std::int64_t first, ConstColumns in, Columns out,
                                   Worker& worker) {
    const auto scale = [&] {
        for (std::int64_t j = 0; j < out.cols; ++j) {
            const double* inverse = inverse_diagonal_.data() + (first + j) * cliques_;
            double* y = out.col(j);
            for (std::int64_t k = 0; k < cliques_; ++k) y[k] *= inverse[k];
        }
    };
    const auto copy = [&] {
        for (std::int64_t j = 0; j < out.cols; ++j) std::copy_n(in.col(j), cliques_, out.col(j));
    };
    copy();
    scale();
    const Columns inner{worker.product.inner.data(), rank_, in.cols, rank_};
    std::fill_n(inner.data, rank_ * in.cols, 0.0);
    add_product(1, packed_transposed_, plain(out), inner, worker.product.buffers);
    for (std::int64_t j = 0; j < in.cols; ++j) {
        multiply_upper_transposed(inverse_factor(first + j), inner.col(j), worker.forward.data());
        multiply_upper(inverse_factor(first + j), worker.forward.data(), inner.col(j));
    }
    copy();
    add_product(-1, packed_, plain(inner), out, worker.product.buffers);
    scale();
}

void IterativeNewton::project(std::span<const double> residual, AlignedVector& out) {
    for_each_chunk([&](std::int64_t first, std::int64_t count, Worker& worker) {
        const ConstColumns in{residual.data() + first * cliques_, cliques_, count, cliques_};
        const Columns to = matrix(out).block(0, first, cliques_, count);
        precondition(first, in, to, worker);
        for (std::int64_t b = first; b < first + count; ++b) {
            double* y = matrix(out).col(b);
            const double* solved = matrix(solved_ones_).col(b);
            nu_[b] = ConstVector(y, cliques_).sum() / ones_product_[b];
            for (std::int64_t k = 0; k < cliques_; ++k) y[k] -= nu_[b] * solved[k];
        }
    });
}

void IterativeNewton::multiply(AlignedVector& X, AlignedVector& out) {
    for_each_chunk([&](std::int64_t first, std::int64_t count, Worker& worker) {
        similarity_.multiply_twice(matrix(X).block(0, first, cliques_, count),
                                   matrix(out).block(0, first, cliques_, count), worker.product);
        for (std::int64_t b = first; b < first + count; ++b)
            multiply_batch(b, matrix(X).col(b), matrix(out).col(b));
    });
    if (coupled_) add_coupling(out);
}

// Adds what the coverage and the diagonal give of one batch.
void IterativeNewton::multiply_batch(std::int64_t b, const double* x, double* y) {
    double* cover = cover_.data() + b * samples_;
    const double* own = batch_curvature_.data() + b * samples_;
    const double* d = diagonal_.data() + b * cliques_;
    for (std::int64_t n = 0; n < samples_; ++n) {
        double sum = 0;
        for (const std::int64_t k : by_sample_.of(n)) sum += x[k];
        cover[n] = sum;
    }
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double sum = d[k] * x[k];
        for (const std::int64_t n : problem_.coverage.of(k)) sum += own[n] * cover[n];
        y[k] += sum;
    }
}

void IterativeNewton::add_coupling(AlignedVector& out) {
    constexpr std::int64_t rows = 4096;
    pool_.parallel_for((samples_ + rows - 1) / rows, [&](std::int64_t c, int) {
        const std::int64_t begin = c * rows, end = std::min(begin + rows, samples_);
        std::fill(total_.begin() + begin, total_.begin() + end, 0.0);
        for (std::int64_t b = 0; b < batches_; ++b) {
            const double* cover = cover_.data() + b * samples_;
            for (std::int64_t n = begin; n < end; ++n) total_[n] += cover[n];
        }
        for (std::int64_t n = begin; n < end; ++n) total_[n] *= total_curvature_[n];
    });
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double sum = 0;
        for (const std::int64_t n : problem_.coverage.of(k)) sum += total_[n];
        shared_[k] = sum;
    }
    pool_.parallel_for(batches_, [&](std::int64_t b, int) {
        double* y = matrix(out).col(b);
        for (std::int64_t k = 0; k < cliques_; ++k) y[k] += shared_[k];
    });
}

double IterativeNewton::dot(std::span<const double> a, std::span<const double> b) {
    pool_.parallel_for(batches_, [&](std::int64_t c, int) {
        partial_[c] = ConstVector(a.data() + c * cliques_, cliques_)
                          .dot(ConstVector(b.data() + c * cliques_, cliques_));
    });
    double sum = 0;
    for (const double part : partial_) sum += part;
    return sum;
}

void IterativeNewton::set_residual(std::span<const double> f, AlignedVector& x) {
    multiply(x, product_);
    for (std::size_t i = 0; i < f.size(); ++i) residual_[i] = f[i] - product_[i];
}

// The point of the preconditioner that has the right row sums.
void IterativeNewton::start_with_row_sums(std::span<const double> f, std::span<const double> e,
                                          AlignedVector& x) {
    project(f, x);
    for (std::int64_t b = 0; b < batches_; ++b) {
        double* own = matrix(x).col(b);
        const double* solved = matrix(solved_ones_).col(b);
        const double missing = (e[b] - ConstVector(own, cliques_).sum()) / ones_product_[b];
        for (std::int64_t k = 0; k < cliques_; ++k) own[k] += missing * solved[k];
    }
}

void IterativeNewton::solve(std::span<const double> f, std::span<const double> e,
                            std::span<double> dx, std::span<double> dnu) {
    start_with_row_sums(f, e, x_);  // from there on they stay
    set_residual(f, x_);
    project(residual_, preconditioned_);
    std::copy(preconditioned_.begin(), preconditioned_.end(), direction_.begin());
    double energy = dot(residual_, preconditioned_);
    // The energy norm of the whole right-hand side sets the scale.
    project(f, product_);
    const double scale = std::max(dot(f, product_), energy);
    for (int step = 0; step < max_steps && energy > 0; ++step) {
        if (energy <= relative_tolerance_ * relative_tolerance_ * scale) break;
        ++steps_;
        multiply(direction_, product_);
        const double curvature = dot(direction_, product_);
        if (!(curvature > 0)) break;  // rounding is reached
        const double length = energy / curvature;
        pool_.parallel_for(batches_, [&](std::int64_t b, int) {
            for (std::int64_t i = b * cliques_; i < (b + 1) * cliques_; ++i) {
                x_[i] += length * direction_[i];
                residual_[i] -= length * product_[i];
            }
        });
        project(residual_, preconditioned_);
        // What the multipliers take would only grow by rounding: it is not part of the residual.
        for (std::int64_t b = 0; b < batches_; ++b)
            for (std::int64_t i = b * cliques_; i < (b + 1) * cliques_; ++i) residual_[i] -= nu_[b];
        const double next = dot(residual_, preconditioned_);
        const double keep = next / energy;
        energy = next;
        pool_.parallel_for(batches_, [&](std::int64_t b, int) {
            for (std::int64_t i = b * cliques_; i < (b + 1) * cliques_; ++i)
                direction_[i] = preconditioned_[i] + keep * direction_[i];
        });
        pool_.check();
    }
    std::copy(x_.begin(), x_.end(), dx.begin());
    // The multipliers that leave the smallest residual in the norm of the preconditioner.
    set_residual(f, x_);
    project(residual_, preconditioned_);
    std::copy(nu_.begin(), nu_.end(), dnu.begin());
}

}  // namespace cliquesim
