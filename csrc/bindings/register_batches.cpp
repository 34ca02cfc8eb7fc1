#include "batches/batches.hpp"
#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"

namespace cliquesim::bindings {

namespace {

// The arrays of one problem; C as merge_samples leaves it.
struct ProblemArrays {
    Array<double> similarity;
    Array<std::int64_t> offsets, indices;
    Array<double> weights;

    // Views need the GIL: taken before run_kernel.
    BatchProblem problem(double lambda1, double lambda2, double p, double smoothing) const {
        const auto S = matrix_view(similarity, "similarity");
        const CoverageView coverage{S.rows, weights.shape(0), vector_view(offsets, "offsets"),
                                    vector_view(indices, "indices"),
                                    vector_view(weights, "weights")};
        require(S.rows == S.cols, "similarity must be square");
        require(static_cast<std::int64_t>(coverage.offsets.size()) == S.rows + 1 &&
                    coverage.offsets.front() == 0 &&
                    coverage.offsets.back() == static_cast<std::int64_t>(coverage.indices.size()),
                "membership and similarity must have the same number of cliques");
        for (const std::int64_t n : coverage.indices) {
            require(n >= 0 && n < coverage.samples, "membership has a sample index out of range");
        }
        return {S, coverage, lambda1, lambda2, p, smoothing};
    }
};

py::tuple merge(const Array<std::int64_t>& offsets, const Array<std::int64_t>& indices,
                std::int64_t samples) {
    Coverage merged =
        merge_samples(vector_view(offsets, "offsets"), vector_view(indices, "indices"), samples);
    const auto size = [](const auto& values) {
        return std::vector<py::ssize_t>{static_cast<py::ssize_t>(values.size())};
    };
    const auto offsets_shape = size(merged.offsets);
    const auto indices_shape = size(merged.indices);
    const auto weights_shape = size(merged.weights);
    return py::make_tuple(take_vector(std::move(merged.offsets), offsets_shape),
                          take_vector(std::move(merged.indices), indices_shape),
                          take_vector(std::move(merged.weights), weights_shape));
}

py::tuple discrete_tuple(DiscreteBatches&& result) {
    const py::ssize_t starts = result.starts;
    return py::make_tuple(
        take_vector(std::move(result.cliques), {starts, result.batches, result.cliques_per_batch}),
        take_vector(std::move(result.objectives), {starts}),
        take_vector(std::move(result.swaps), {starts}), result.complete);
}

Regime parse_regime(const std::string& name) {
    if (name == "auto") return Regime::choose;
    if (name == "dense") return Regime::dense;
    require(name == "iterative", "unknown regime '" + name + "'");
    return Regime::iterative;
}

const char* status_name(SolveStatus status) {
    switch (status) {
        case SolveStatus::solved:
            return "SOLVED";
        case SolveStatus::almost_solved:
            return "ALMOST_SOLVED";
        case SolveStatus::max_iterations:
            return "MAX_ITER";
        case SolveStatus::time_limit:
            return "TIME_LIMIT";
        case SolveStatus::numerical_error:
            break;
    }
    return "NUMERICAL_ERROR";
}

py::tuple relaxed_tuple(RelaxedSolution&& result, py::ssize_t batches, py::ssize_t cliques) {
    py::dict info;
    info["iterations"] = result.iterations;
    info["regime"] = result.regime == Regime::dense ? "dense" : "iterative";
    info["rank"] = result.rank;
    info["low_rank"] = result.low_rank;
    info["inner_iterations"] = result.inner_iterations;
    info["primal_residual"] = result.primal_residual;
    info["dual_residual"] = result.dual_residual;
    info["gap"] = result.gap;
    py::dict times;
    times["factor"] = result.seconds_factor;
    times["solve"] = result.seconds_solve;
    times["total"] = result.seconds_total;
    info["times"] = times;
    std::vector<double> log;
    for (const RelaxedLog& row : result.log) {
        log.insert(log.end(), {row.objective, row.primal_residual, row.dual_residual, row.gap,
                               row.barrier, row.step});
    }
    const auto rows = static_cast<py::ssize_t>(result.log.size());
    info["log"] = take_vector(std::move(log), {rows, 6});
    return py::make_tuple(take_vector(std::move(result.X), {batches, cliques}), result.objective,
                          status_name(result.status), info);
}

}  // namespace

void register_batches(py::module_& module) {
    module.def("merge_samples", &merge, py::arg("offsets").noconvert(),
               py::arg("indices").noconvert(), py::arg("samples"));

    module.def(
        "objective_terms",
        [](const Array<double>& X, const Array<double>& similarity,
           const Array<std::int64_t>& offsets, const Array<std::int64_t>& indices,
           const Array<double>& weights, double p, double smoothing, int num_threads) {
            const ProblemArrays arrays{similarity, offsets, indices, weights};
            const BatchProblem problem = arrays.problem(0, 0, p, smoothing);
            const auto x = matrix_view(X, "X");
            const auto terms = run_kernel(num_threads, py::none(), [&](const Context& context) {
                return objective_terms(problem, x, context);
            });
            return py::make_tuple(terms.similarity, terms.batch_coverage, terms.total_coverage);
        },
        py::arg("X").noconvert(), py::arg("similarity").noconvert(), py::arg("offsets").noconvert(),
        py::arg("indices").noconvert(), py::arg("weights").noconvert(), py::arg("p"),
        py::arg("smoothing"), py::arg("num_threads"));

    module.def(
        "greedy_batches",
        [](const Array<std::int64_t>& first, std::int64_t cliques_per_batch,
           const Array<double>& similarity, const Array<std::int64_t>& offsets,
           const Array<std::int64_t>& indices, const Array<double>& weights, double lambda1,
           double lambda2, double p, int num_threads) {
            const ProblemArrays arrays{similarity, offsets, indices, weights};
            const BatchProblem problem = arrays.problem(lambda1, lambda2, p, 0);
            const auto view = matrix_view(first, "first");
            return discrete_tuple(run_kernel(num_threads, py::none(), [&](const Context& context) {
                return greedy_batches(problem, view, cliques_per_batch, context);
            }));
        },
        py::arg("first").noconvert(), py::arg("cliques_per_batch"),
        py::arg("similarity").noconvert(), py::arg("offsets").noconvert(),
        py::arg("indices").noconvert(), py::arg("weights").noconvert(), py::arg("lambda1"),
        py::arg("lambda2"), py::arg("p"), py::arg("num_threads"));

    module.def(
        "swap_batches",
        [](const Array<std::int64_t>& starts, std::int64_t cliques_per_batch,
           const Array<double>& similarity, const Array<std::int64_t>& offsets,
           const Array<std::int64_t>& indices, const Array<double>& weights, double lambda1,
           double lambda2, double p, std::int64_t kicks, std::uint64_t seed, double time_limit,
           int num_threads) {
            const ProblemArrays arrays{similarity, offsets, indices, weights};
            const BatchProblem problem = arrays.problem(lambda1, lambda2, p, 0);
            const auto view = matrix_view(starts, "starts");
            return discrete_tuple(run_kernel(num_threads, py::none(), [&](const Context& context) {
                return swap_batches(problem, view, cliques_per_batch, {kicks, seed, time_limit},
                                    context);
            }));
        },
        py::arg("starts").noconvert(), py::arg("cliques_per_batch"),
        py::arg("similarity").noconvert(), py::arg("offsets").noconvert(),
        py::arg("indices").noconvert(), py::arg("weights").noconvert(), py::arg("lambda1"),
        py::arg("lambda2"), py::arg("p"), py::arg("kicks"), py::arg("seed"), py::arg("time_limit"),
        py::arg("num_threads"));

    module.def(
        "solve_relaxed",
        [](const Array<double>& linear, const Array<double>& start, double cliques_per_batch,
           const Array<double>& similarity, const Array<std::int64_t>& offsets,
           const Array<std::int64_t>& indices, const Array<double>& weights, double lambda1,
           double lambda2, double p, double smoothing, double tolerance, int max_iterations,
           double time_limit, int num_threads, const std::string& regime) {
            const Regime wanted = parse_regime(regime);
            const ProblemArrays arrays{similarity, offsets, indices, weights};
            const BatchProblem problem = arrays.problem(lambda1, lambda2, p, smoothing);
            const auto linear_view = matrix_view(linear, "linear");
            const auto start_view = matrix_view(start, "start");
            auto result = run_kernel(num_threads, py::none(), [&](const Context& context) {
                return solve_relaxed(problem, linear_view, start_view, cliques_per_batch,
                                     {tolerance, max_iterations, time_limit, wanted}, context);
            });
            return relaxed_tuple(std::move(result), linear_view.rows, linear_view.cols);
        },
        py::arg("linear").noconvert(), py::arg("start").noconvert(), py::arg("cliques_per_batch"),
        py::arg("similarity").noconvert(), py::arg("offsets").noconvert(),
        py::arg("indices").noconvert(), py::arg("weights").noconvert(), py::arg("lambda1"),
        py::arg("lambda2"), py::arg("p"), py::arg("smoothing"), py::arg("tolerance"),
        py::arg("max_iterations"), py::arg("time_limit"), py::arg("num_threads"),
        py::arg("regime") = "auto");
}

}  // namespace cliquesim::bindings
