#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "temporal/temporal.hpp"
#include "temporal/windows.hpp"

namespace cliquesim::bindings {

namespace {

Array<float> pooled(const Array<float>& features, const Array<float>& col_features,
                    const Array<std::int64_t>& rows, const Array<std::int64_t>& cols,
                    const Array<std::int64_t>& sequence, std::int64_t radius, bool correlation,
                    int num_threads, const py::object& progress) {
    const PooledSimilarityRequest request{matrix_view(features, "features"),
                                          matrix_view(col_features, "col_features"),
                                          vector_view(rows, "rows"),
                                          vector_view(cols, "cols"),
                                          vector_view(sequence, "sequence"),
                                          radius,
                                          correlation};
    Array<float> out({rows.shape(0), cols.shape(0)});
    const MatrixView<float> view = mutable_matrix_view(out);
    run_kernel(num_threads, progress,
               [&](const Context& context) { pooled_similarity(request, view, context); });
    return out;
}

// (order, frames, positions, before, after) of the requests, for the CUDA kernel.
py::tuple window_plan(const Array<std::int64_t>& requests, const Array<std::int64_t>& sequence,
                      std::int64_t radius, const char* name) {
    const auto frames = vector_view(requests, name);
    const SequenceReach reach =
        sequence_reach(vector_view(sequence, "sequence"), radius, "sequence");
    WindowPlan plan = plan_windows(frames, reach, name);
    std::vector<std::int32_t> before, after;
    for (const std::int64_t frame : frames) {
        before.push_back(reach[frame].before);
        after.push_back(reach[frame].after);
    }
    const auto take = [](auto&& values) {
        const auto size = static_cast<py::ssize_t>(values.size());
        return take_vector(std::move(values), {size});
    };
    return py::make_tuple(take(std::move(plan.order)), take(std::move(plan.frames)),
                          take(std::move(plan.positions)), take(std::move(before)),
                          take(std::move(after)));
}

}  // namespace

void register_temporal(py::module_& module) {
    module.def("pooled_similarity", &pooled, py::arg("features").noconvert(),
               py::arg("col_features").noconvert(), py::arg("rows").noconvert(),
               py::arg("cols").noconvert(), py::arg("sequence").noconvert(), py::arg("radius"),
               py::arg("correlation"), py::arg("num_threads"), py::arg("progress"));
    module.def("window_plan", &window_plan, py::arg("requests").noconvert(),
               py::arg("sequence").noconvert(), py::arg("radius"), py::arg("name"));
}

}  // namespace cliquesim::bindings
