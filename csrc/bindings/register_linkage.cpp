#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "linkage/linkage.hpp"

namespace cliquesim::bindings {

namespace {

Metric parse_metric(const std::string& name) {
    if (name == "euclidean") return Metric::euclidean;
    if (name == "sqeuclidean") return Metric::sqeuclidean;
    if (name == "cosine") return Metric::cosine;
    require(name == "correlation", "unknown metric '" + name + "'");
    return Metric::correlation;
}

template <typename T>
Array<double> linkage_condensed(const Array<T>& condensed, std::int64_t n, int num_threads,
                                const py::object& progress) {
    require(n >= 1, "there must be at least one observation");
    const auto values = vector_view(condensed, "condensed");
    Array<double> dendrogram({n - 1, std::int64_t{4}});
    const auto out = mutable_matrix_view(dendrogram);
    run_kernel(num_threads, progress,
               [&](const Context& context) { linkage_of_condensed(values, out, context); });
    return dendrogram;
}

template <typename T>
Array<double> linkage_vectors(const Array<T>& vectors, const std::string& metric, int num_threads,
                              const py::object& progress) {
    const auto rows = matrix_view(vectors, "vectors");
    require(rows.rows >= 1, "there must be at least one observation");
    const Metric kind = parse_metric(metric);
    Array<double> dendrogram({rows.rows - 1, std::int64_t{4}});
    const auto out = mutable_matrix_view(dendrogram);
    run_kernel(num_threads, progress,
               [&](const Context& context) { linkage_of_vectors(rows, kind, out, context); });
    return dendrogram;
}

template <typename T>
void register_for(py::module_& module) {
    module.def("linkage_condensed", &linkage_condensed<T>, py::arg("condensed").noconvert(),
               py::arg("n"), py::arg("num_threads"), py::arg("progress"));
    module.def("linkage_vectors", &linkage_vectors<T>, py::arg("vectors").noconvert(),
               py::arg("metric"), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace

void register_linkage(py::module_& module) {
    register_for<float>(module);
    register_for<double>(module);
}

}  // namespace cliquesim::bindings
