#include "batches/discrete_state.hpp"

#include <cmath>

namespace cliquesim {

DiscreteTables::DiscreteTables(const BatchProblem& problem_, std::int64_t batches_,
                               std::int64_t per_batch_)
    : problem(problem_),
      by_sample(transpose(problem_.coverage)),
      batches(batches_),
      per_batch(per_batch_) {
    const ConcavePower g(problem.p, problem.smoothing);
    const auto gains = [&](double lambda, std::int64_t largest) {
        std::vector<double> table(largest + 2, 0.0);
        for (std::int64_t c = 1; c < largest + 2; ++c) {
            const auto t = static_cast<double>(c);
            table[c] = lambda * (g.value(t) - g.value(t - 1));
        }
        return table;
    };
    batch_gain = gains(problem.lambda1, per_batch);
    total_gain = gains(problem.lambda2, batches * per_batch);

    double largest = 0;
    const std::int64_t cliques = problem.similarity.rows;
    for (std::int64_t k = 0; k < cliques; ++k) {
        for (const double value : problem.similarity.row_span(k)) {
            largest = std::max(largest, std::abs(value));
        }
    }
    double weight = 0;
    for (const double w : problem.coverage.weights) weight = std::max(weight, w);
    const double gain = weight * (problem.lambda1 + problem.lambda2);
    tolerance = 1e-12 * (static_cast<double>(per_batch) * largest + gain);
}

DiscreteState::DiscreteState(const DiscreteTables& tables)
    : tables_(tables),
      cliques_(tables.problem.coverage.cliques),
      samples_(tables.problem.coverage.samples),
      members_(tables.batches * tables.per_batch, -1),
      sizes_(tables.batches, 0),
      selected_(tables.batches * cliques_, 0),
      similarity_(tables.batches * cliques_, 0.0),
      batch_count_(tables.batches * samples_, 0),
      total_count_(samples_, 0),
      worth_(samples_),
      addition_(cliques_),
      correction_(cliques_) {}

void DiscreteState::cover(std::int64_t b, std::int64_t clique, int by) {
    std::int32_t* count = batch_count_.data() + b * samples_;
    for (const std::int64_t n : tables_.problem.coverage.of(clique)) {
        count[n] += by;
        total_count_[n] += by;
    }
}

void DiscreteState::update_similarity(std::int64_t b, std::int64_t clique, double factor) {
    const double* row = tables_.problem.similarity.row(clique);
    double* sum = similarity_.data() + b * cliques_;
    for (std::int64_t k = 0; k < cliques_; ++k) sum[k] += factor * row[k];
}

void DiscreteState::add(std::int64_t b, std::int64_t clique) {
    members_[b * tables_.per_batch + sizes_[b]++] = clique;
    selected_[b * cliques_ + clique] = 1;
    cover(b, clique, 1);
    update_similarity(b, clique, 1.0);
}

void DiscreteState::exchange(std::int64_t b, std::int64_t slot, std::int64_t in) {
    std::int64_t& place = members_[b * tables_.per_batch + slot];
    const std::int64_t out = place;
    selected_[b * cliques_ + out] = 0;
    selected_[b * cliques_ + in] = 1;
    cover(b, out, -1);
    cover(b, in, 1);
    place = in;
    // Summed anew, so that no rounding piles up over many exchanges: O(r K), as the search itself.
    std::fill_n(similarity_.begin() + b * cliques_, cliques_, 0.0);
    for (std::int64_t i = 0; i < sizes_[b]; ++i) update_similarity(b, member(b, i), 1.0);
}

// addition_[k]: change of Eq. (1) when clique k joins batch b.
void DiscreteState::compute_additions(std::int64_t b) {
    const auto& coverage = tables_.problem.coverage;
    const std::int32_t* count = batch_count_.data() + b * samples_;
    for (std::int64_t n = 0; n < samples_; ++n) {
        worth_[n] = coverage.weights[n] *
                    (tables_.batch_gain[count[n] + 1] + tables_.total_gain[total_count_[n] + 1]);
    }
    const double* sum = similarity_.data() + b * cliques_;
    for (std::int64_t k = 0; k < cliques_; ++k) {
        double gain = 0;
        for (const std::int64_t n : coverage.of(k)) gain += worth_[n];
        addition_[k] = 2 * sum[k] - gain;
    }
}

std::int64_t DiscreteState::best_addition(std::int64_t b) {
    compute_additions(b);
    std::int64_t best = -1;
    for (std::int64_t k = 0; k < cliques_; ++k) {
        if (!selected(b, k) && (best < 0 || addition_[k] < addition_[best])) best = k;
    }
    return best;
}

Exchange DiscreteState::best_exchange(std::int64_t b) {
    const auto& problem = tables_.problem;
    const CoverageView by_sample = tables_.by_sample.view();
    const std::int32_t* count = batch_count_.data() + b * samples_;
    const double* sum = similarity_.data() + b * cliques_;
    compute_additions(b);
    // A count at its largest would index past the table's end only for members, which stay out.
    for (std::int64_t slot = 0; slot < sizes_[b]; ++slot) {
        addition_[member(b, slot)] = std::numeric_limits<double>::infinity();
    }
    Exchange best;
    for (std::int64_t slot = 0; slot < sizes_[b]; ++slot) {
        const std::int64_t out = member(b, slot);
        const double* row = problem.similarity.row(out);
        double removal = -2 * (sum[out] - row[out]);
        std::fill(correction_.begin(), correction_.end(), 0.0);
        for (const std::int64_t n : problem.coverage.of(out)) {
            // A sample of both cliques keeps its count: take back what was counted twice.
            const double last = problem.coverage.weights[n] * (tables_.batch_gain[count[n]] +
                                                               tables_.total_gain[total_count_[n]]);
            removal += last;
            const double change = worth_[n] - last;
            for (const std::int64_t k : by_sample.of(n)) correction_[k] += change;
        }
        for (std::int64_t k = 0; k < cliques_; ++k) {
            const double change = removal + addition_[k] - 2 * row[k] + correction_[k];
            if (change < best.change) best = {change, slot, k};
        }
    }
    return best;
}

double DiscreteState::change_of(std::int64_t b, std::int64_t slot, std::int64_t in) const {
    const auto& coverage = tables_.problem.coverage;
    const std::int64_t out = member(b, slot);
    const double* row = tables_.problem.similarity.row(out);
    const double* sum = similarity_.data() + b * cliques_;
    const std::int32_t* count = batch_count_.data() + b * samples_;
    double change = 2 * (sum[in] - row[in]) - 2 * (sum[out] - row[out]);
    const auto leaving = coverage.of(out);
    const auto entering = coverage.of(in);
    const auto only = [&](auto these, auto others, int step) {
        for (const std::int64_t n : these) {
            if (std::find(others.begin(), others.end(), n) != others.end()) continue;
            const double gain =
                tables_.batch_gain[count[n] + step] + tables_.total_gain[total_count_[n] + step];
            change += (step == 0 ? 1.0 : -1.0) * coverage.weights[n] * gain;
        }
    };
    only(leaving, entering, 0);
    only(entering, leaving, 1);
    return change;
}

double DiscreteState::objective() const {
    const auto& problem = tables_.problem;
    const ConcavePower g(problem.p, problem.smoothing);
    double similarity = 0, batch_coverage = 0, total_coverage = 0;
    for (std::int64_t b = 0; b < tables_.batches; ++b) {
        for (std::int64_t i = 0; i < sizes_[b]; ++i) {
            const double* row = problem.similarity.row(member(b, i));
            for (std::int64_t j = 0; j < i; ++j) similarity += 2 * row[member(b, j)];
        }
        for (std::int64_t n = 0; n < samples_; ++n) {
            const std::int32_t count = batch_count_[b * samples_ + n];
            if (count > 0) batch_coverage += problem.coverage.weights[n] * g.value(count);
        }
    }
    for (std::int64_t n = 0; n < samples_; ++n) {
        total_coverage += problem.coverage.weights[n] * g.value(total_count_[n]);
    }
    return similarity - problem.lambda1 * batch_coverage - problem.lambda2 * total_coverage;
}

}  // namespace cliquesim
