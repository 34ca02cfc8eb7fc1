#include <pybind11/stl.h>

#include <algorithm>
#include <tuple>

#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "linkage/linkage.hpp"

namespace cliquesim::bindings {

namespace {

Metric parse_metric(const std::string& name) {
    if (name == "euclidean") return Metric::euclidean;
    if (name == "sqeuclidean") return Metric::sqeuclidean;
    if (name == "cosine") return Metric::cosine;
    if (name == "dot") return Metric::dot;
    require(name == "correlation", "unknown metric '" + name + "'");
    return Metric::correlation;
}

Storage parse_storage(const std::string& name) {
    if (name == "none") return Storage::none;
    if (name == "triangle16") return Storage::triangle16;
    if (name == "square") return Storage::square;
    require(name == "triangle", "unknown storage '" + name + "'");
    return Storage::triangle;
}

// (dendrogram, cluster counts after every pass, step of rounded distances)
using Result = std::tuple<Array<double>, std::vector<std::int64_t>, double>;

template <typename Body>
Result link(std::int64_t n, int num_threads, const py::object& progress, const Body& body) {
    require(n >= 1, "there must be at least one observation");
    Array<double> dendrogram({n - 1, std::int64_t{4}});
    const auto out = mutable_matrix_view(dendrogram);
    LinkageReport report = run_kernel(num_threads, progress,
                                      [&](const Context& context) { return body(out, context); });
    return {std::move(dendrogram), std::move(report.levels), report.step};
}

// `y` is condensed or a square; n is the number of observations.
template <typename T>
UpperRows<T> upper_rows(T* data, const py::array& y, std::int64_t n) {
    if (y.ndim() == 2) {
        require(y.shape(0) == n && y.shape(1) == n, "y must be square");
        return UpperRows<T>(MatrixView<T>(data, n, n));
    }
    require(y.ndim() == 1 && y.shape(0) == n * (n - 1) / 2, "y must have n (n-1) / 2 entries");
    return UpperRows<T>(data, n);
}

// The entry of y that is refused, in the words of the caller: similarities are negated distances.
std::string value_of(const BadDistance& bad, bool negate) {
    if (!(bad.distance < 0)) return "NaN";
    return negate ? "inf" : "-inf";
}

std::string place_of(const BadDistance& bad, const py::array& y, std::int64_t n, bool negate) {
    const std::string value = value_of(bad, negate);
    if (y.ndim() == 2)
        return "y has " + value + " in row " + std::to_string(bad.row) + ", column " +
               std::to_string(bad.column);
    const std::int64_t i = bad.row, j = bad.column, position = i * (2 * n - i - 1) / 2 + j - i - 1;
    return "y has " + value + " at position " + std::to_string(position) +
           " (the distance of observations " + std::to_string(i) + " and " + std::to_string(j) +
           ")";
}

template <typename T>
Result linkage_distances(Array<T>& y, std::int64_t n, bool negate, bool overwrite,
                         std::int64_t limit, int num_threads, const py::object& progress,
                         std::int64_t listed, std::int64_t few) {
    const LinkageTuning tuning{listed, few};
    try {
        if (overwrite) {
            const UpperRows<T> rows = upper_rows(y.mutable_data(), y, n);
            return link(n, num_threads, progress, [&](MatrixView<double> out, const auto& context) {
                return linkage_overwriting<T>(rows, negate, out, context, tuning);
            });
        }
        const UpperRows<const T> rows = upper_rows(y.data(), y, n);
        return link(n, num_threads, progress, [&](MatrixView<double> out, const auto& context) {
            return linkage_of_distances<T>(rows, negate, limit, out, context, tuning);
        });
    } catch (const BadDistance& bad) {
        throw std::invalid_argument(place_of(bad, y, n, negate));
    }
}

template <typename T>
Result linkage_vectors(const Array<T>& vectors, const std::string& metric,
                       const std::string& storage, std::int64_t limit, int num_threads,
                       const py::object& progress, std::int64_t listed, std::int64_t few) {
    const LinkageTuning tuning{listed, few};
    const auto rows = matrix_view(vectors, "vectors");
    const Metric kind = parse_metric(metric);
    const Storage kept = parse_storage(storage);
    return link(rows.rows, num_threads, progress, [&](MatrixView<double> out, const auto& context) {
        return linkage_of_vectors(rows, kind, kept, limit, out, context, tuning);
    });
}

template <typename T>
Result linkage_graph(const Array<std::int64_t>& offsets, const Array<std::int64_t>& columns,
                     const Array<T>& distances, bool negate, int num_threads,
                     const py::object& progress) {
    const auto ends = vector_view(offsets, "indptr");
    const auto cols = vector_view(columns, "indices");
    const auto values = vector_view(distances, "data");
    require(ends.size() > 1, "y is no valid CSR matrix");
    try {
        return link(std::ssize(ends) - 1, num_threads, progress,
                    [&](MatrixView<double> out, const auto& context) {
                        return linkage_of_graph(ends, cols, values, negate, out, context);
                    });
    } catch (const BadDistance& bad) {
        throw std::invalid_argument("y has " + value_of(bad, negate) + " in row " +
                                    std::to_string(bad.row) + ", column " +
                                    std::to_string(bad.column));
    }
}

template <typename T>
void register_for(py::module_& module) {
    const LinkageTuning usual;
    module.def("linkage_distances", &linkage_distances<T>, py::arg("y").noconvert(), py::arg("n"),
               py::arg("negate"), py::arg("overwrite"), py::arg("limit"), py::arg("num_threads"),
               py::arg("progress"), py::arg("listed") = usual.listed, py::arg("few") = usual.few);
    module.def("linkage_vectors", &linkage_vectors<T>, py::arg("vectors").noconvert(),
               py::arg("metric"), py::arg("storage"), py::arg("limit"), py::arg("num_threads"),
               py::arg("progress"), py::arg("listed") = usual.listed, py::arg("few") = usual.few);
    module.def("linkage_graph", &linkage_graph<T>, py::arg("indptr").noconvert(),
               py::arg("indices").noconvert(), py::arg("data").noconvert(), py::arg("negate"),
               py::arg("num_threads"), py::arg("progress"));
}

}  // namespace

void register_linkage(py::module_& module) {
    register_for<float>(module);
    register_for<double>(module);
}

}  // namespace cliquesim::bindings
