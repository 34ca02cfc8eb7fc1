// Primal-dual interior point for Eq. (5)-(6): Mehrotra's predictor-corrector, steps safeguarded by
// the norm of the perturbed optimality conditions (Boyd and Vandenberghe, Convex
// Optimization, 11.7) or, where that allows only short ones, by the barrier function.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>

#include "batches/batches.hpp"
#include "batches/dense_newton.hpp"
#include "batches/iterative_newton.hpp"
#include "batches/relaxed_objective.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

using Clock = std::chrono::steady_clock;
using Vector = AlignedVector;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// X, the multipliers of X >= 0 and X <= 1, and those of the row sums.
struct Iterate {
    Vector x, lower, upper, nu;
};

struct Measures {
    double primal = 0, dual = 0, gap = 0;  // the two residuals and x'z + (1 - x)'w
    double smallest = 0;                   // complementarity product
    double merit = 0;                      // squared norm of the perturbed conditions
};

// Dense blocks cost B K^3 flops an iteration, conjugate gradients some 100 B K^2.
constexpr std::int64_t max_dense_cliques = 256;

Regime choose_regime(Regime wanted, std::int64_t cliques) {
    if (wanted != Regime::choose) return wanted;
    return cliques <= max_dense_cliques ? Regime::dense : Regime::iterative;
}

class InteriorPoint {
  public:
    InteriorPoint(const BatchProblem& problem, MatrixView<const double> linear,
                  double cliques_per_batch, const RelaxedOptions& options, const Context& context)
        : options_(options),
          r_(cliques_per_batch),
          B_(linear.rows),
          K_(linear.cols),
          by_sample_storage_(transpose(problem.coverage)),
          by_sample_(by_sample_storage_.view()),
          pool_(context),
          regime_(choose_regime(options.regime, K_)),
          objective_(problem, linear, by_sample_, regime_ == Regime::iterative, pool_),
          system_(make_system()),
          diagonal_(B_ * K_),
          rhs_(B_ * K_),
          row_residual_(B_),
          dual_residual_(B_ * K_) {
        for (Iterate* each : {&current_, &trial_, &affine_, &step_}) {
            each->x.resize(B_ * K_);
            each->lower.resize(B_ * K_);
            each->upper.resize(B_ * K_);
            each->nu.resize(B_);
        }
    }

    RelaxedSolution run(MatrixView<const double> start);

  private:
    std::unique_ptr<NewtonSystem> make_system();
    void begin_at(MatrixView<const double> start);
    // Residuals at `point`, where the objective was evaluated last; merit is against
    // complementarity = target.
    Measures measure(const Iterate& point, double target);
    void direction(double target, const Iterate* corrector, Iterate& out);
    double longest_primal_step(const Iterate& direction) const;
    double longest_dual_step(const Iterate& direction) const;
    double longest_step(const Iterate& direction) const {
        return std::min(longest_primal_step(direction), longest_dual_step(direction));
    }
    double complementarity_after(const Iterate& direction, double step) const;
    double search(double target, double merit, int max_halvings);
    double barrier(const Vector& x, double target) const;
    double search_barrier(double target);
    bool advance(double mu, double& step);
    double size() const { return std::max(std::abs(objective_.value), 1e-3); }  // of the objective
    bool converged(const Measures& now, double tolerance) const;
    RelaxedSolution finish(const Measures& now, SolveStatus status);

    const RelaxedOptions options_;
    const double r_;
    const std::int64_t B_, K_;
    const Coverage by_sample_storage_;
    const CoverageView by_sample_;
    ThreadPool pool_;
    const Regime regime_;
    RelaxedObjective objective_;
    std::unique_ptr<NewtonSystem> system_;
    Iterate current_, trial_, affine_, step_;
    Vector diagonal_, rhs_, row_residual_, dual_residual_;
    double gradient_scale_ = 1;
    double least_centering_ = 0;
    RelaxedSolution result_;
};

std::unique_ptr<NewtonSystem> InteriorPoint::make_system() {
    const BatchProblem& problem = objective_.problem();
    const SimilarityOperator& similarity = objective_.similarity();
    if (regime_ == Regime::dense)
        return std::make_unique<DenseNewton>(problem, similarity, by_sample_, B_, pool_);
    const double inexactness = std::min(std::sqrt(options_.tolerance), 1e-2);
    return std::make_unique<IterativeNewton>(problem, similarity, by_sample_, B_, inexactness,
                                             pool_);
}

void InteriorPoint::begin_at(MatrixView<const double> start) {
    const double uniform = r_ / static_cast<double>(K_);
    constexpr double pull = 0.1;  // towards the centre: every entry gets away from its bounds
    for (std::int64_t b = 0; b < B_; ++b) {
        double sum = 0;
        bool inside = true;
        for (const double v : start.row_span(b)) {
            sum += v;
            inside = inside && v >= 0 && v <= 1;
        }
        inside = inside && std::abs(sum - r_) <= 1e-6 * r_;
        for (std::int64_t k = 0; k < K_; ++k) {
            const double from = inside ? start(b, k) * (r_ / sum) : uniform;
            current_.x[b * K_ + k] = (1 - pull) * from + pull * uniform;
        }
    }
    objective_.evaluate(current_.x);
    // Multipliers on the central path: x z = (1 - x) w = mu, mu from the projected gradient.
    double mu = 0;
    for (std::int64_t b = 0; b < B_; ++b) {
        double mean = 0;
        for (std::int64_t k = 0; k < K_; ++k) mean += objective_.gradient[b * K_ + k];
        mean /= static_cast<double>(K_);
        for (std::int64_t k = 0; k < K_; ++k) {
            const double x = current_.x[b * K_ + k];
            mu += std::abs(objective_.gradient[b * K_ + k] - mean) * std::min(x, 1 - x);
        }
    }
    mu = std::max(mu / static_cast<double>(B_ * K_), 1e-6);
    for (std::int64_t b = 0; b < B_; ++b) {
        double mean = 0;
        for (std::int64_t i = b * K_; i < (b + 1) * K_; ++i) {
            current_.lower[i] = mu / current_.x[i];
            current_.upper[i] = mu / (1 - current_.x[i]);
            mean += objective_.gradient[i] - current_.lower[i] + current_.upper[i];
        }
        current_.nu[b] = -mean / static_cast<double>(K_);
    }
}

Measures InteriorPoint::measure(const Iterate& point, double target) {
    Measures now;
    now.smallest = std::numeric_limits<double>::infinity();
    gradient_scale_ = 1;
    for (std::int64_t b = 0; b < B_; ++b) {
        double sum = 0;
        for (std::int64_t i = b * K_; i < (b + 1) * K_; ++i) {
            const double x = point.x[i];
            const double dual =
                objective_.gradient[i] - point.lower[i] + point.upper[i] + point.nu[b];
            const double low = x * point.lower[i], high = (1 - x) * point.upper[i];
            dual_residual_[i] = dual;
            now.dual = std::max(now.dual, std::abs(dual));
            now.gap += low + high;
            now.smallest = std::min({now.smallest, low, high});
            now.merit +=
                dual * dual + (low - target) * (low - target) + (high - target) * (high - target);
            gradient_scale_ = std::max(gradient_scale_, std::abs(objective_.gradient[i]));
            sum += x;
        }
        row_residual_[b] = r_ - sum;
        now.primal = std::max(now.primal, std::abs(row_residual_[b]));
        now.merit += row_residual_[b] * row_residual_[b];
    }
    return now;
}

// Newton's direction of the conditions with x z = target, less the corrector's second-order terms.
void InteriorPoint::direction(double target, const Iterate* corrector, Iterate& out) {
    const auto low_target = [&](std::size_t i) {
        const double second = corrector ? corrector->x[i] * corrector->lower[i] : 0.0;
        return target - current_.x[i] * current_.lower[i] - second;
    };
    const auto high_target = [&](std::size_t i) {
        const double second = corrector ? -corrector->x[i] * corrector->upper[i] : 0.0;
        return target - (1 - current_.x[i]) * current_.upper[i] - second;
    };
    for (std::size_t i = 0; i < rhs_.size(); ++i) {
        const double x = current_.x[i];
        rhs_[i] = -dual_residual_[i] + low_target(i) / x - high_target(i) / (1 - x);
    }
    const auto begin = Clock::now();
    system_->solve(rhs_, row_residual_, out.x, out.nu);
    result_.seconds_solve += seconds_since(begin);
    for (std::size_t i = 0; i < rhs_.size(); ++i) {
        const double x = current_.x[i];
        out.lower[i] = (low_target(i) - current_.lower[i] * out.x[i]) / x;
        out.upper[i] = (high_target(i) + current_.upper[i] * out.x[i]) / (1 - x);
    }
}

double InteriorPoint::longest_primal_step(const Iterate& direction) const {
    double step = 1e300;
    for (std::size_t i = 0; i < direction.x.size(); ++i) {
        const double change = direction.x[i];
        if (change != 0)
            step =
                std::min(step, change < 0 ? -current_.x[i] / change : (1 - current_.x[i]) / change);
    }
    return step;
}

double InteriorPoint::longest_dual_step(const Iterate& direction) const {
    double step = 1e300;
    const auto limit = [&](double value, double change) {
        if (change < 0) step = std::min(step, -value / change);
    };
    for (std::size_t i = 0; i < direction.x.size(); ++i) {
        limit(current_.lower[i], direction.lower[i]);
        limit(current_.upper[i], direction.upper[i]);
    }
    return step;
}

double InteriorPoint::complementarity_after(const Iterate& direction, double step) const {
    double sum = 0;
    for (std::size_t i = 0; i < direction.x.size(); ++i) {
        const double x = current_.x[i] + step * direction.x[i];
        sum += x * (current_.lower[i] + step * direction.lower[i]) +
               (1 - x) * (current_.upper[i] + step * direction.upper[i]);
    }
    return sum;
}

// Halves the step along step_ until the conditions are better met; 0 if that never happens. Leaves
// the accepted point in trial_, and objective and residuals evaluated there.
double InteriorPoint::search(double target, double merit, int max_halvings) {
    const double count = 2.0 * static_cast<double>(B_ * K_);
    double step = std::min(1.0, 0.995 * longest_step(step_));
    for (int halving = 0; halving <= max_halvings; ++halving, step *= 0.5) {
        for (std::size_t i = 0; i < trial_.x.size(); ++i) {
            trial_.x[i] = current_.x[i] + step * step_.x[i];
            trial_.lower[i] = current_.lower[i] + step * step_.lower[i];
            trial_.upper[i] = current_.upper[i] + step * step_.upper[i];
        }
        for (std::size_t b = 0; b < trial_.nu.size(); ++b) {
            trial_.nu[b] = current_.nu[b] + step * step_.nu[b];
        }
        objective_.evaluate(trial_.x);
        const Measures now = measure(trial_, target);
        if (std::isfinite(now.merit) && now.smallest >= 1e-4 * now.gap / count &&
            now.merit <= (1 - 0.01 * step) * merit) {
            return step;
        }
    }
    return 0;
}

// The objective, where it was evaluated last, with the logarithmic barrier of 0 < x < 1.
double InteriorPoint::barrier(const Vector& x, double target) const {
    double logs = 0;
    for (const double value : x) logs += std::log(value) + std::log1p(-value);
    return objective_.value - target * logs;
}

// Newton's plain step towards x z = target; X's length by the barrier function, which the direction
// always descends: a nearly uncovered sample's gradient, of which Newton's model is wrong but for a
// small change, keeps the norm of the conditions from falling long before it keeps this one. 0 if
// rounding is all that is left of it. Leaves the point in trial_, as search() does.
double InteriorPoint::search_barrier(double target) {
    constexpr double spread = 10;  // of the complementarity products
    objective_.evaluate(current_.x);
    measure(current_, target);
    direction(target, nullptr, step_);
    const double before = barrier(current_.x, target);
    double slope = 0;
    for (std::size_t i = 0; i < step_.x.size(); ++i) {
        const double x = current_.x[i];
        slope += (objective_.gradient[i] - target / x + target / (1 - x)) * step_.x[i];
    }
    const double rounding = 1e-15 * std::abs(before);
    if (!(slope < -rounding)) return 0;
    const double dual_step = std::min(1.0, 0.995 * longest_dual_step(step_));
    double step = std::min(1.0, 0.995 * longest_primal_step(step_));
    for (int halving = 0; halving < 30; ++halving, step *= 0.5) {
        for (std::size_t i = 0; i < trial_.x.size(); ++i)
            trial_.x[i] = current_.x[i] + step * step_.x[i];
        objective_.evaluate(trial_.x);
        if (!(barrier(trial_.x, target) <= before + 1e-4 * step * slope + rounding)) continue;
        const auto near_path = [&](double value, double distance) {
            return std::clamp(value, target / (spread * distance), spread * target / distance);
        };
        for (std::size_t i = 0; i < trial_.x.size(); ++i) {
            const double x = trial_.x[i];
            trial_.lower[i] = near_path(current_.lower[i] + dual_step * step_.lower[i], x);
            trial_.upper[i] = near_path(current_.upper[i] + dual_step * step_.upper[i], 1 - x);
        }
        for (std::size_t b = 0; b < trial_.nu.size(); ++b)
            trial_.nu[b] = current_.nu[b] + step * step_.nu[b];
        return step;
    }
    return 0;
}

// One iteration from current_, whose residuals are in place; false if no direction helps.
bool InteriorPoint::advance(double mu, double& step) {
    const double count = 2.0 * static_cast<double>(B_ * K_);
    direction(0.0, nullptr, affine_);
    const double affine_step = std::min(1.0, longest_step(affine_));
    const double ratio = complementarity_after(affine_, affine_step) / count / mu;
    const double centering = std::clamp(ratio * ratio * ratio, least_centering_, 1.0);

    double target = centering * mu;
    direction(target, &affine_, step_);
    step = search(target, measure(current_, target).merit, 3);
    least_centering_ = step > 0.3 ? 1e-3 : 0.1;
    if (step > 0.3) return true;
    target = std::max(centering, 0.3) * mu;
    step = search_barrier(target);
    if (step > 0) return true;
    objective_.evaluate(current_.x);
    const double merit = measure(current_, target).merit;
    step = search(target, merit, 30);
    return step > 0;
}

bool InteriorPoint::converged(const Measures& now, double tolerance) const {
    return now.primal <= tolerance * std::max(1.0, r_) && now.dual <= tolerance * gradient_scale_ &&
           now.gap <= tolerance * size();
}

RelaxedSolution InteriorPoint::finish(const Measures& now, SolveStatus status) {
    if (status != SolveStatus::solved && converged(now, std::sqrt(options_.tolerance))) {
        status = SolveStatus::almost_solved;
    }
    result_.X.assign(current_.x.begin(), current_.x.end());
    result_.status = status;
    result_.objective = objective_.value / objective_.scale();
    result_.primal_residual = now.primal;
    result_.dual_residual = now.dual / gradient_scale_;
    result_.gap = now.gap / size();
    result_.regime = regime_;
    result_.rank = objective_.similarity().rank();
    result_.low_rank = objective_.similarity().is_low_rank();
    result_.inner_iterations = system_->inner_iterations();
    return std::move(result_);
}

RelaxedSolution InteriorPoint::run(MatrixView<const double> start) {
    const auto begin = Clock::now();
    result_.log.reserve(static_cast<std::size_t>(std::min(options_.max_iterations, 999)) + 1);
    begin_at(start);
    const double count = 2.0 * static_cast<double>(B_ * K_);
    double step = 0;
    Measures now = measure(current_, 0.0);
    SolveStatus status = SolveStatus::max_iterations;
    for (int iteration = 0;; ++iteration) {
        const double mu = now.gap / count;
        result_.iterations = iteration;
        result_.log.push_back({objective_.value / objective_.scale(), now.primal,
                               now.dual / gradient_scale_, now.gap / size(), mu, step});
        if (converged(now, options_.tolerance)) {
            status = SolveStatus::solved;
            break;
        }
        if (iteration == options_.max_iterations) break;
        if (options_.time_limit > 0 && seconds_since(begin) > options_.time_limit) {
            status = SolveStatus::time_limit;
            break;
        }
        for (std::size_t i = 0; i < diagonal_.size(); ++i) {
            diagonal_[i] =
                current_.lower[i] / current_.x[i] + current_.upper[i] / (1 - current_.x[i]);
        }
        const auto factor_begin = Clock::now();
        const bool factored =
            system_->factor(objective_.batch_curvature, objective_.total_curvature, diagonal_);
        result_.seconds_factor += seconds_since(factor_begin);
        if (!factored || !advance(mu, step)) {
            objective_.evaluate(current_.x);
            now = measure(current_, 0.0);
            status = SolveStatus::numerical_error;
            break;
        }
        std::swap(current_, trial_);
        now = measure(current_, 0.0);
    }
    result_.seconds_total = seconds_since(begin);
    return finish(now, status);
}

}  // namespace

RelaxedSolution solve_relaxed(const BatchProblem& problem, MatrixView<const double> linear,
                              MatrixView<const double> start, double cliques_per_batch,
                              const RelaxedOptions& options, const Context& context) {
    const std::int64_t cliques = problem.coverage.cliques;
    require(linear.rows >= 1 && linear.cols == cliques && start.rows == linear.rows &&
                start.cols == cliques,
            "linear and start must have shape (B, K)");
    require(cliques_per_batch > 0 && cliques_per_batch < static_cast<double>(cliques),
            "cliques_per_batch must be within (0, K)");
    require(problem.lambda1 >= 0 && problem.lambda2 >= 0, "lambdas must be at least 0");
    require(options.tolerance > 0 && options.max_iterations >= 0, "tolerance must be above 0");
    return InteriorPoint(problem, linear, cliques_per_batch, options, context).run(start);
}

}  // namespace cliquesim
