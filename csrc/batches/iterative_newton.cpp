#include "batches/iterative_newton.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

// An inexact direction reduces the residual as far as its own error; the next one takes it on from
// there.
constexpr double relative_tolerance = 1e-5;
constexpr int max_steps = 500;

constexpr std::int64_t chunk = 16;  // batches per product; fixed, so sums never depend on threads

}  // namespace

IterativeNewton::IterativeNewton(const BatchProblem& problem, const SimilarityOperator& similarity,
                                 const CoverageView& by_sample, std::int64_t batches,
                                 ThreadPool& pool)
    : problem_(problem),
      similarity_(similarity),
      by_sample_(by_sample),
      batches_(batches),
      cliques_(problem.coverage.cliques),
      samples_(problem.coverage.samples),
      coupled_(problem.lambda2 > 0 && problem.coverage.samples > 0),
      pool_(pool),
      inverse_diagonal_(cliques_, batches),
      inner_(batches, Eigen::LLT<Matrix>(similarity.factor().cols())),
      solved_ones_(cliques_, batches),
      ones_product_(batches),
      x_(cliques_, batches),
      residual_(cliques_, batches),
      direction_(cliques_, batches),
      product_(cliques_, batches),
      preconditioned_(cliques_, batches),
      cover_(samples_, batches),
      shared_(cliques_),
      total_(samples_),
      nu_(batches),
      partial_(batches) {}

template <typename Body>
void IterativeNewton::for_each_chunk(const Body& body) {
    pool_.parallel_for((batches_ + chunk - 1) / chunk, [&](std::int64_t c, int) {
        body(c * chunk, std::min(chunk, batches_ - c * chunk));
    });
}

bool IterativeNewton::factor(std::span<const double> batch_curvature,
                             std::span<const double> total_curvature,
                             std::span<const double> diagonal) {
    batch_curvature_ = batch_curvature;
    total_curvature_ = total_curvature;
    diagonal_ = diagonal;
    const Matrix& V = similarity_.factor();
    std::vector<std::uint8_t> positive(batches_, 1);
    std::vector<Matrix> scaled(pool_.size());
    pool_.parallel_for(batches_, [&](std::int64_t b, int worker) {
        const double* own = batch_curvature_.data() + b * samples_;
        for (std::int64_t k = 0; k < cliques_; ++k) {
            double entry = diagonal_[b * cliques_ + k] + 2 * similarity_.remainder()[k];
            for (const std::int64_t n : problem_.coverage.of(k))
                entry += own[n] + (coupled_ ? total_curvature_[n] : 0.0);
            inverse_diagonal_(k, b) = 1 / entry;
        }
        Matrix& W = scaled[worker];
        W = inverse_diagonal_.col(b).cwiseSqrt().asDiagonal() * V;
        Matrix inner = Matrix::Zero(V.cols(), V.cols());
        inner.diagonal().setConstant(0.5);
        inner.selfadjointView<Eigen::Lower>().rankUpdate(W.transpose());
        inner_[b].compute(inner);
        positive[b] = inner_[b].info() == Eigen::Success;
        if (!positive[b]) return;
        precondition(b, Matrix::Ones(cliques_, 1), solved_ones_.col(b));
        ones_product_[b] = solved_ones_.col(b).sum();
        positive[b] = std::isfinite(ones_product_[b]) && ones_product_[b] > 0;
    });
    return std::ranges::find(positive, 0) == positive.end();
}

void IterativeNewton::precondition(std::int64_t first, const Eigen::Ref<const Matrix>& in,
                                   Eigen::Ref<Matrix> out) const {
    const Matrix& V = similarity_.factor();
    const auto inverse = inverse_diagonal_.middleCols(first, in.cols());
    out = inverse.cwiseProduct(in);
    Matrix inner = V.transpose() * out;
    for (Eigen::Index b = 0; b < in.cols(); ++b) inner_[first + b].solveInPlace(inner.col(b));
    const Matrix correction = V * inner;
    out -= inverse.cwiseProduct(correction);
}

void IterativeNewton::project(const Matrix& residual, Matrix& out) {
    for_each_chunk([&](std::int64_t begin, std::int64_t width) {
        precondition(begin, residual.middleCols(begin, width), out.middleCols(begin, width));
        for (std::int64_t b = begin; b < begin + width; ++b) {
            nu_[b] = out.col(b).sum() / ones_product_[b];
            out.col(b) -= nu_[b] * solved_ones_.col(b);
        }
    });
}

void IterativeNewton::multiply(const Matrix& X, Matrix& out) {
    for_each_chunk([&](std::int64_t begin, std::int64_t width) {
        similarity_.multiply_twice(X.middleCols(begin, width), out.middleCols(begin, width));
        for (std::int64_t b = begin; b < begin + width; ++b) {
            const double* x = X.col(b).data();
            double* y = out.col(b).data();
            double* cover = cover_.col(b).data();
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
    });
    if (!coupled_) return;
    constexpr std::int64_t rows = 4096;
    pool_.parallel_for((samples_ + rows - 1) / rows, [&](std::int64_t c, int) {
        const std::int64_t begin = c * rows, count = std::min(rows, samples_ - begin);
        auto part = total_.segment(begin, count);
        part = cover_.col(0).segment(begin, count);
        for (std::int64_t b = 1; b < batches_; ++b) part += cover_.col(b).segment(begin, count);
        for (std::int64_t n = begin; n < begin + count; ++n) total_[n] *= total_curvature_[n];
    });
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double sum = 0;
        for (const std::int64_t n : problem_.coverage.of(k)) sum += total_[n];
        shared_[k] = sum;
    }
    pool_.parallel_for(batches_, [&](std::int64_t b, int) { out.col(b) += shared_; });
}

double IterativeNewton::dot(const Matrix& a, const Matrix& b) {
    pool_.parallel_for(batches_,
                       [&](std::int64_t c, int) { partial_[c] = a.col(c).dot(b.col(c)); });
    double sum = 0;
    for (const double part : partial_) sum += part;
    return sum;
}

void IterativeNewton::solve(std::span<const double> f, std::span<const double> e,
                            std::span<double> dx, std::span<double> dnu) {
    const Eigen::Map<const Matrix> F(f.data(), cliques_, batches_);
    // The point of the preconditioner that has the right row sums; from there on they stay.
    project(F, x_);
    for (std::int64_t b = 0; b < batches_; ++b)
        x_.col(b) += (e[b] - x_.col(b).sum()) / ones_product_[b] * solved_ones_.col(b);
    multiply(x_, product_);
    residual_ = F - product_;
    project(residual_, preconditioned_);
    direction_ = preconditioned_;
    double energy = dot(residual_, preconditioned_);
    // The energy norm of the whole right-hand side sets the scale.
    project(F, product_);
    const double scale = std::max(dot(F, product_), energy);
    for (int step = 0; step < max_steps && energy > 0; ++step) {
        if (energy <= relative_tolerance * relative_tolerance * scale) break;
        ++steps_;
        multiply(direction_, product_);
        const double curvature = dot(direction_, product_);
        if (!(curvature > 0)) break;  // rounding is reached
        const double length = energy / curvature;
        pool_.parallel_for(batches_, [&](std::int64_t b, int) {
            x_.col(b) += length * direction_.col(b);
            residual_.col(b) -= length * product_.col(b);
        });
        project(residual_, preconditioned_);
        // What the multipliers take would only grow by rounding: it is not part of the residual.
        for (std::int64_t b = 0; b < batches_; ++b) residual_.col(b).array() -= nu_[b];
        const double next = dot(residual_, preconditioned_);
        const double keep = next / energy;
        energy = next;
        pool_.parallel_for(batches_, [&](std::int64_t b, int) {
            direction_.col(b) = preconditioned_.col(b) + keep * direction_.col(b);
        });
        pool_.check();
    }
    Eigen::Map<Matrix>(dx.data(), cliques_, batches_) = x_;
    // The multipliers that leave the smallest residual in the norm of the preconditioner.
    multiply(x_, product_);
    residual_ = F - product_;
    project(residual_, preconditioned_);
    std::copy(nu_.data(), nu_.data() + batches_, dnu.begin());
}

}  // namespace cliquesim
