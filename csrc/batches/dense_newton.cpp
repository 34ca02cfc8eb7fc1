#include "batches/dense_newton.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

// Groups of batches whose sums are formed apart; a constant, so that the order of summation does
// not depend on the number of threads.
constexpr std::int64_t max_groups = 16;
constexpr std::int64_t chunk = 8;          // batches per product with S'
constexpr std::int64_t column_chunk = 64;  // of the coupling

void mirror_lower(Columns A) {
    for (std::int64_t j = 0; j < A.cols; ++j)
        for (std::int64_t i = j + 1; i < A.rows; ++i) A(j, i) = A(i, j);
}

}  // namespace

DenseNewton::DenseNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                         const CoverageView& by_sample, std::int64_t batches, ThreadPool& pool)
    : problem_(problem),
      by_sample_(by_sample),
      batches_(batches),
      cliques_(problem.coverage.cliques),
      samples_(problem.coverage.samples),
      size_(round_up_to_dense(cliques_)),
      stride_(stride_for(size_)),
      coupled_(problem.lambda2 > 0 && problem.coverage.samples > 0),
      pool_(pool),
      twice_similarity_(stride_ * size_),
      inverse_factors_(batches * stride_ * size_),
      solved_ones_(batches * size_),
      ones_product_(batches),
      positive_(coupled_ ? std::min(max_groups, batches) : batches),
      workers_(pool.size()),
      sum_(size_),
      shift_(size_),
      rest_f_(batches * cliques_),
      rest_e_(batches),
      correction_x_(batches * cliques_),
      correction_nu_(batches),
      block_norms_(batches) {
    const Columns twice = matrix(twice_similarity_);
    for (std::int64_t j = 0; j < cliques_; ++j)
        for (std::int64_t i = 0; i < cliques_; ++i) twice(i, j) = 2 * similarity.dense()(i, j);
    for (std::int64_t j = cliques_; j < size_; ++j) twice(j, j) = 1;
    for (Worker& worker : workers_) {
        worker.block.resize(stride_ * size_);
        for (AlignedVector* each : {&worker.input, &worker.forward, &worker.output})
            each->resize(size_);
        worker.cover.resize(samples_);
    }
    if (coupled_) {
        partial_sums_.resize(positive_.size() * stride_ * size_);
        coupling_.resize(stride_ * size_);
        reduced_.resize(stride_ * size_);
        pivots_.resize(size_);
    }
}

Columns DenseNewton::matrix(AlignedVector& storage, std::int64_t number) const {
    return {storage.data() + number * stride_ * size_, size_, size_, stride_};
}

void DenseNewton::add_coverage(const double* curvature, Columns lower) const {
    for (std::int64_t n = 0; n < samples_; ++n) {
        const auto holders = by_sample_.of(n);
        for (std::size_t j = 0; j < holders.size(); ++j) {
            double* column = lower.col(holders[j]);
            for (std::size_t i = j; i < holders.size(); ++i) column[holders[i]] += curvature[n];
        }
    }
}

void DenseNewton::add_coverage_product(const double* curvature, const double* x, double* y,
                                       std::vector<double>& cover) const {
    std::fill(cover.begin(), cover.end(), 0.0);
    for (std::int64_t k = 0; k < cliques_; ++k)
        for (const std::int64_t n : problem_.coverage.of(k)) cover[n] += x[k];
    for (std::int64_t n = 0; n < samples_; ++n) cover[n] *= curvature[n];
    for (std::int64_t k = 0; k < cliques_; ++k)
        for (const std::int64_t n : problem_.coverage.of(k)) y[k] += cover[n];
}

bool DenseNewton::factor_block(std::int64_t b, Worker& worker) {
    const Columns A = matrix(worker.block), U = matrix(inverse_factors_, b);
    std::copy(twice_similarity_.begin(), twice_similarity_.end(), worker.block.begin());
    add_coverage(batch_curvature_.data() + b * samples_, A);
    for (std::int64_t k = 0; k < cliques_; ++k) A(k, k) += diagonal_[b * cliques_ + k];
    if (!factor_positive(A, U, worker.buffers)) return false;
    std::fill_n(worker.input.begin(), cliques_, 1.0);
    std::fill(worker.input.begin() + cliques_, worker.input.end(), 0.0);
    multiply_upper_transposed(U, worker.input.data(), worker.forward.data());
    multiply_upper(U, worker.forward.data(), solved_ones(b));
    ones_product_[b] = 0;
    for (const double value : worker.forward) ones_product_[b] += value * value;
    return std::isfinite(ones_product_[b]) && ones_product_[b] > 0;
}

// Adds the lower triangle of P_b.
void DenseNewton::accumulate(std::int64_t b, Worker& worker, Columns sum) {
    const Columns U = matrix(inverse_factors_, b);
    add_product(1, U, transposed(U), sum, worker.buffers, Triangle::both);
    const double* t = solved_ones(b);
    for (std::int64_t j = 0; j < size_; ++j) {
        const double factor = t[j] / ones_product_[b];
        for (std::int64_t i = j; i < size_; ++i) sum(i, j) -= factor * t[i];
    }
}

bool DenseNewton::factor(std::span<const double> batch_curvature,
                         std::span<const double> total_curvature,
                         std::span<const double> diagonal) {
    batch_curvature_ = batch_curvature;
    total_curvature_ = total_curvature;
    diagonal_ = diagonal;
    const std::int64_t groups = std::ssize(positive_);
    std::fill(partial_sums_.begin(), partial_sums_.end(), 0.0);
    pool_.parallel_for(groups, [&](std::int64_t group, int w) {
        positive_[group] = 1;
        for (std::int64_t b = group; b < batches_ && positive_[group]; b += groups) {
            positive_[group] = factor_block(b, workers_[w]);
            if (positive_[group] && coupled_)
                accumulate(b, workers_[w], matrix(partial_sums_, group));
        }
    });
    if (std::ranges::find(positive_, 0) != positive_.end()) return false;
    if (coupled_) factor_coupling();
    return true;
}

void DenseNewton::factor_coupling() {
    const Columns sum = matrix(partial_sums_), Q = matrix(coupling_), reduced = matrix(reduced_);
    const std::int64_t entries = stride_ * size_;
    for (std::size_t group = 1; group < positive_.size(); ++group)
        for (std::int64_t i = 0; i < entries; ++i) sum.data[i] += sum.data[group * entries + i];
    mirror_lower(sum);
    std::fill(coupling_.begin(), coupling_.end(), 0.0);
    add_coverage(total_curvature_.data(), Q);
    mirror_lower(Q);
    std::fill(reduced_.begin(), reduced_.end(), 0.0);
    for (std::int64_t k = 0; k < size_; ++k) reduced(k, k) = 1;
    pool_.parallel_for((size_ + column_chunk - 1) / column_chunk, [&](std::int64_t c, int w) {
        const std::int64_t first = c * column_chunk, count = std::min(column_chunk, size_ - first);
        add_product(1, sum, plain(Q.block(0, first, size_, count)),
                    reduced.block(0, first, size_, count), workers_[w].buffers);
    });
    factor_general(reduced, pivots_.data(), workers_[0].buffers);
}

void DenseNewton::solve_blocks(std::span<const double> f, std::span<const double> e,
                               std::span<double> dx, std::span<double> dnu) {
    pool_.parallel_for(batches_, [&](std::int64_t b, int w) {
        Worker& own = workers_[w];
        const Columns U = matrix(inverse_factors_, b);
        std::fill(own.input.begin() + cliques_, own.input.end(), 0.0);
        for (std::int64_t k = 0; k < cliques_; ++k) own.input[k] = f[b * cliques_ + k] - shift_[k];
        multiply_upper_transposed(U, own.input.data(), own.forward.data());
        multiply_upper(U, own.forward.data(), own.output.data());
        double total = 0;
        for (std::int64_t k = 0; k < cliques_; ++k) total += own.output[k];
        dnu[b] = (total - e[b]) / ones_product_[b];
        const double* t = solved_ones(b);
        for (std::int64_t k = 0; k < cliques_; ++k)
            dx[b * cliques_ + k] = own.output[k] - dnu[b] * t[k];
    });
}

void DenseNewton::sum_batches(std::span<const double> dx) {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (std::int64_t b = 0; b < batches_; ++b)
        for (std::int64_t k = 0; k < cliques_; ++k) sum_[k] += dx[b * cliques_ + k];
}

void DenseNewton::solve_once(std::span<const double> f, std::span<const double> e,
                             std::span<double> dx, std::span<double> dnu) {
    std::fill(shift_.begin(), shift_.end(), 0.0);
    solve_blocks(f, e, dx, dnu);
    if (!coupled_) return;
    sum_batches(dx);
    solve_general(matrix(reduced_), pivots_.data(), sum_.data());
    add_coverage_product(total_curvature_.data(), sum_.data(), shift_.data(), workers_[0].cover);
    solve_blocks(f, e, dx, dnu);
}

double DenseNewton::residual(std::span<const double> f, std::span<const double> e,
                             std::span<const double> dx, std::span<const double> dnu) {
    std::fill(shift_.begin(), shift_.end(), 0.0);
    if (coupled_) {
        sum_batches(dx);
        add_coverage_product(total_curvature_.data(), sum_.data(), shift_.data(),
                             workers_[0].cover);
    }
    const ConstColumns S = matrix(twice_similarity_).block(0, 0, cliques_, cliques_);
    pool_.parallel_for((batches_ + chunk - 1) / chunk, [&](std::int64_t c, int w) {
        const std::int64_t first = c * chunk, count = std::min(chunk, batches_ - first);
        const ConstColumns X{dx.data() + first * cliques_, cliques_, count, cliques_};
        const Columns rest{rest_f_.data() + first * cliques_, cliques_, count, cliques_};
        std::fill_n(rest.data, count * cliques_, 0.0);
        add_product(1, S, plain(X), rest, workers_[w].buffers);
        for (std::int64_t b = first; b < first + count; ++b) {
            const double* x = dx.data() + b * cliques_;
            double* own = rest_f_.data() + b * cliques_;
            add_coverage_product(batch_curvature_.data() + b * samples_, x, own, workers_[w].cover);
            double total = 0, largest = 0;
            for (std::int64_t k = 0; k < cliques_; ++k) {
                const std::int64_t i = b * cliques_ + k;
                own[k] = f[i] - (own[k] + diagonal_[i] * x[k] + dnu[b] + shift_[k]);
                total += x[k];
                largest = std::max(largest, std::abs(own[k]));
            }
            rest_e_[b] = e[b] - total;
            block_norms_[b] = largest;
        }
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
