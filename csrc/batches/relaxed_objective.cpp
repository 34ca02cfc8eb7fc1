#include "batches/relaxed_objective.hpp"

#include <algorithm>
#include <cmath>

namespace cliquesim {

namespace {

// 1 / (largest coefficient): S' times 2, the linear term, a clique's coverage at slope 1.
double choose_scale(const BatchProblem& problem, MatrixView<const double> linear) {
    double largest = 0;
    for (std::int64_t k = 0; k < problem.similarity.rows; ++k) {
        for (const double v : problem.similarity.row_span(k)) {
            largest = std::max(largest, 2 * std::abs(v));
        }
        double size = 0;
        for (const std::int64_t n : problem.coverage.of(k)) size += problem.coverage.weights[n];
        largest = std::max(largest, problem.p * size * (problem.lambda1 + problem.lambda2));
    }
    for (std::int64_t b = 0; b < linear.rows; ++b) {
        for (const double v : linear.row_span(b)) largest = std::max(largest, std::abs(v));
    }
    return largest > 0 ? 1.0 / largest : 1.0;
}

}  // namespace

RelaxedObjective::RelaxedObjective(const BatchProblem& problem, MatrixView<const double> linear,
                                   const CoverageView& by_sample, bool with_factor,
                                   ThreadPool& pool)
    : batches_(linear.rows),
      cliques_(linear.cols),
      samples_(problem.coverage.samples),
      scale_(choose_scale(problem, linear)),
      similarity_(problem.similarity, scale_, with_factor, pool),
      scaled_(problem),
      by_sample_(by_sample),
      pool_(pool),
      g_(problem.p, problem.smoothing) {
    for (std::int64_t b = 0; b < batches_; ++b) {
        for (const double v : linear.row_span(b)) linear_.push_back(scale_ * v);
    }
    scaled_.similarity = {};
    scaled_.lambda1 *= scale_;
    scaled_.lambda2 *= scale_;
    gradient.resize(batches_ * cliques_);
    cover_.resize(batches_ * samples_);
    batch_slope_.resize(batches_ * samples_);
    batch_curvature.resize(batches_ * samples_);
    total_cover_.resize(samples_);
    total_slope_.resize(samples_);
    total_curvature.resize(samples_);
    batch_value_.resize(batches_);
    shared_gradient_.resize(cliques_);
    for (int worker = 0; worker < pool.size(); ++worker)
        workspaces_.push_back(similarity_.workspace());
}

void RelaxedObjective::evaluate_batch(std::int64_t b, const double* x) {
    const auto& coverage = scaled_.coverage;
    double* cover = cover_.data() + b * samples_;
    double* slope = batch_slope_.data() + b * samples_;
    double* curvature = batch_curvature.data() + b * samples_;
    double* grad = gradient.data() + b * cliques_;  // holds 2 S' x_b
    const double* linear = linear_.data() + b * cliques_;
    double sum = 0;
    for (std::int64_t k = 0; k < cliques_; ++k) {
        sum += x[k] * (0.5 * grad[k] - linear[k]);
        grad[k] -= linear[k];
    }
    for (std::int64_t n = 0; n < samples_; ++n) {
        double covered = 0;
        for (const std::int64_t k : by_sample_.of(n)) covered += x[k];
        cover[n] = covered;
    }
    for (std::int64_t n = 0; n < samples_; ++n) {
        double height = 0, first = 0, second = 0;
        g_.evaluate(cover[n], height, first, second);
        const double weight = scaled_.lambda1 * coverage.weights[n];
        sum -= weight * height;
        slope[n] = weight * first;
        curvature[n] = -weight * second;
    }
    for (std::int64_t k = 0; k < cliques_; ++k) {
        for (const std::int64_t n : coverage.of(k)) grad[k] -= slope[n];
    }
    batch_value_[b] = sum;
}

void RelaxedObjective::evaluate_total() {
    const auto& coverage = scaled_.coverage;
    std::fill(total_cover_.begin(), total_cover_.end(), 0.0);
    for (std::int64_t b = 0; b < batches_; ++b) {
        for (std::int64_t n = 0; n < samples_; ++n) total_cover_[n] += cover_[b * samples_ + n];
    }
    for (std::int64_t n = 0; n < samples_; ++n) {
        double height = 0, first = 0, second = 0;
        g_.evaluate(total_cover_[n], height, first, second);
        const double weight = scaled_.lambda2 * coverage.weights[n];
        value -= weight * height;
        total_slope_[n] = weight * first;
        total_curvature[n] = -weight * second;
    }
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double sum = 0;
        for (const std::int64_t n : coverage.of(k)) sum += total_slope_[n];
        shared_gradient_[k] = sum;
    }
    for (std::int64_t b = 0; b < batches_; ++b) {
        for (std::int64_t k = 0; k < cliques_; ++k) {
            gradient[b * cliques_ + k] -= shared_gradient_[k];
        }
    }
}

void RelaxedObjective::evaluate(std::span<const double> x) {
    // Batches per product; fixed, so that sums never depend on threads.
    constexpr std::int64_t chunk = 8;
    static_assert(chunk <= SimilarityOperator::max_columns);
    pool_.parallel_for((batches_ + chunk - 1) / chunk, [&](std::int64_t c, int worker) {
        const std::int64_t begin = c * chunk, width = std::min(chunk, batches_ - begin);
        const ConstColumns X{x.data() + begin * cliques_, cliques_, width, cliques_};
        const Columns product{gradient.data() + begin * cliques_, cliques_, width, cliques_};
        similarity_.multiply_twice(X, product, workspaces_[worker]);
        for (std::int64_t b = begin; b < begin + width; ++b) {
            evaluate_batch(b, x.data() + b * cliques_);
        }
    });
    value = 0;
    for (const double v : batch_value_) value += v;
    evaluate_total();
}

}  // namespace cliquesim
