#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "whitening/whitening.hpp"

namespace cliquesim::bindings {

void register_whitening(py::module_& module) {
    module.def(
        "add_moments",
        [](const Array<float>& x, const Array<float>& shift, Array<double> sum,
           Array<double> scatter, int num_threads, const py::object& progress) {
            require(sum.ndim() == 1 && scatter.ndim() == 2,
                    "sum must have 1 dimension and scatter 2");
            const auto rows = matrix_view(x, "x");
            const auto centre = vector_view(shift, "shift");
            const std::span<double> first(sum.mutable_data(),
                                          static_cast<std::size_t>(sum.shape(0)));
            const auto second = mutable_matrix_view(scatter);
            return run_kernel(num_threads, progress, [&](const Context& context) {
                return whitening::add_moments(rows, centre, first, second, context);
            });
        },
        py::arg("x").noconvert(), py::arg("shift").noconvert(), py::arg("sum").noconvert(),
        py::arg("scatter").noconvert(), py::arg("num_threads"), py::arg("progress"));
    module.def(
        "average_over_offsets",
        [](const Array<double>& covariance, std::int64_t rows, std::int64_t cols,
           std::int64_t channels, int num_threads) {
            const auto from = matrix_view(covariance, "covariance");
            Array<double> stationary({from.rows, from.cols});
            const auto to = mutable_matrix_view(stationary);
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                whitening::average_over_offsets(from, rows, cols, channels, to, context);
            });
            return stationary;
        },
        py::arg("covariance").noconvert(), py::arg("rows"), py::arg("cols"), py::arg("channels"),
        py::arg("num_threads"));
    module.def(
        "cholesky",
        [](Array<double> a, int num_threads) {
            require(a.ndim() == 2, "a must have 2 dimensions");
            const auto view = mutable_matrix_view(a);
            return run_kernel(num_threads, py::none(), [&](const Context& context) {
                return whitening::cholesky(view, context);
            });
        },
        py::arg("a").noconvert(), py::arg("num_threads"));
    module.def(
        "invert_transposed",
        [](const Array<double>& factor, int num_threads) {
            const auto lower = matrix_view(factor, "factor");
            Array<float> inverse({lower.rows, lower.rows});
            const auto to = mutable_matrix_view(inverse);
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                whitening::invert_transposed(lower, to, context);
            });
            return inverse;
        },
        py::arg("factor").noconvert(), py::arg("num_threads"));
    module.def(
        "project",
        [](const Array<float>& x, const Array<float>& mean, const Array<float>& projection,
           Array<float> out, int num_threads, const py::object& progress) {
            require(out.ndim() == 2, "out must have 2 dimensions");
            const auto rows = matrix_view(x, "x");
            const auto centre = vector_view(mean, "mean");
            const auto matrix = matrix_view(projection, "projection");
            const auto to = mutable_matrix_view(out);
            return run_kernel(num_threads, progress, [&](const Context& context) {
                return whitening::project(rows, centre, matrix, to, context);
            });
        },
        py::arg("x").noconvert(), py::arg("mean").noconvert(), py::arg("projection").noconvert(),
        py::arg("out").noconvert(), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace cliquesim::bindings
