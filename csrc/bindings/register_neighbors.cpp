#include <pybind11/stl.h>

#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "neighbors/neighbors.hpp"

namespace cliquesim::bindings {

namespace {

using Labels = std::optional<Array<std::int64_t>>;

std::span<const std::int64_t> labels_view(const Labels& labels, const char* name) {
    return labels ? vector_view(*labels, name) : std::span<const std::int64_t>();
}

py::tuple neighbors(const Array<float>& corpus, const std::optional<Array<float>>& queries,
                    std::int64_t k, std::int64_t n_bottom, bool correlation, const Labels& groups,
                    const Labels& query_groups, std::int64_t group_window, std::int64_t pool_radius,
                    const Labels& sequences, int num_threads, const py::object& progress) {
    require(k >= 0 && n_bottom >= 0, "k and n_bottom must be at least 0");
    NeighborSearch search;
    search.corpus = matrix_view(corpus, "X");
    if (queries) search.queries = matrix_view(*queries, "queries");
    search.correlation = correlation;
    search.groups = labels_view(groups, "groups");
    search.query_groups = labels_view(query_groups, "query_groups");
    search.group_window = group_window;
    search.pool_radius = pool_radius;
    search.sequences = labels_view(sequences, "sequences");

    const std::int64_t rows = queries ? search.queries.rows : search.corpus.rows;
    Array<std::int64_t> indices({rows, k});
    Array<float> similarities({rows, k});
    Array<std::int64_t> bottom_indices({rows, n_bottom});
    Array<float> bottom_similarities({rows, n_bottom});
    const NeighborLists out{mutable_matrix_view(indices), mutable_matrix_view(similarities),
                            mutable_matrix_view(bottom_indices),
                            mutable_matrix_view(bottom_similarities)};
    run_kernel(num_threads, progress,
               [&](const Context& context) { find_neighbors(search, out, context); });
    return py::make_tuple(indices, similarities, bottom_indices, bottom_similarities);
}

}  // namespace

void register_neighbors(py::module_& module) {
    module.def("neighbors", &neighbors, py::arg("corpus").noconvert(),
               py::arg("queries").noconvert(), py::arg("k"), py::arg("n_bottom"),
               py::arg("correlation"), py::arg("groups").noconvert(),
               py::arg("query_groups").noconvert(), py::arg("group_window"), py::arg("pool_radius"),
               py::arg("sequences").noconvert(), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace cliquesim::bindings
