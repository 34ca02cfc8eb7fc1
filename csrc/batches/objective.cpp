#include <vector>

#include "batches/batches.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

// x S x^T without its diagonal terms; skips the zeros of x.
double similarity_term(MatrixView<const double> similarity, std::span<const double> x,
                       std::vector<std::int64_t>& support) {
    support.clear();
    for (std::size_t k = 0; k < x.size(); ++k) {
        if (x[k] != 0) support.push_back(static_cast<std::int64_t>(k));
    }
    double sum = 0;
    for (const std::int64_t i : support) {
        const double* row = similarity.row(i);
        double product = 0;
        for (const std::int64_t j : support) product += row[j] * x[j];
        // tr(X diag(S') X^T) has x^2: the two agree for binary x, Eq. (1) prints this one.
        sum += x[i] * (product - row[i] * x[i]);
    }
    return sum;
}

}  // namespace

ObjectiveTerms objective_terms(const BatchProblem& problem, MatrixView<const double> X,
                               const Context& context) {
    const auto& coverage = problem.coverage;
    require(X.cols == coverage.cliques, "X must have one column per clique");
    const ConcavePower g(problem.p, problem.smoothing);
    ThreadPool pool(context);
    std::vector<double> similarity(X.rows), batch_coverage(X.rows);
    std::vector<std::vector<double>> covers(pool.size());
    std::vector<std::vector<std::int64_t>> supports(pool.size());
    pool.parallel_for(X.rows, [&](std::int64_t b, int worker) {
        similarity[b] = similarity_term(problem.similarity, X.row_span(b), supports[worker]);
        auto& cover = covers[worker];
        cover.assign(coverage.samples, 0.0);
        for (const std::int64_t k : supports[worker]) {
            for (const std::int64_t n : coverage.of(k)) cover[n] += X(b, k);
        }
        double sum = 0;
        for (std::int64_t n = 0; n < coverage.samples; ++n) {
            if (cover[n] > 0) sum += coverage.weights[n] * g.value(cover[n]);
        }
        batch_coverage[b] = sum;
    });

    ObjectiveTerms terms;
    std::vector<double> columns(coverage.cliques, 0.0), cover(coverage.samples, 0.0);
    for (std::int64_t b = 0; b < X.rows; ++b) {
        terms.similarity += similarity[b];
        terms.batch_coverage += batch_coverage[b];
        for (std::int64_t k = 0; k < coverage.cliques; ++k) columns[k] += X(b, k);
    }
    for (std::int64_t k = 0; k < coverage.cliques; ++k) {
        for (const std::int64_t n : coverage.of(k)) cover[n] += columns[k];
    }
    for (std::int64_t n = 0; n < coverage.samples; ++n) {
        if (cover[n] > 0) terms.total_coverage += coverage.weights[n] * g.value(cover[n]);
    }
    return terms;
}

}  // namespace cliquesim
