#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "neighbors/int16_products.hpp"
#include "neighbors/neighbors.hpp"

namespace cliquesim::bindings {

namespace {

using Labels = std::optional<Array<std::int64_t>>;

std::span<const std::int64_t> labels_view(const Labels& labels, const char* name) {
    return labels ? vector_view(*labels, name) : std::span<const std::int64_t>();
}

Precision precision_of(const std::string& name) {
    if (name == "float32") return Precision::float32;
    if (name == "int16") return Precision::int16;
    require(name == "auto", "precision must be auto, float32 or int16");
    return Precision::automatic;
}

py::dict as_dict(const NeighborReport& report) {
    py::dict info;
    info["products"] = report.int16 ? "int16" : "float32";
    info["instructions"] = report.instructions;
    info["error_bound"] = report.error_bound;
    info["tiles"] = report.tiles;
    info["float32_tiles"] = report.exact_tiles;
    info["recomputed"] = report.recomputed;
    info["memory_bytes"] = report.memory;
    return info;
}

NeighborSearch search_of(const Array<float>& corpus, const std::optional<Array<float>>& queries,
                         const std::optional<Array<float>>& mirrored, bool correlation,
                         const Labels& groups, const Labels& query_groups,
                         std::int64_t group_window, std::int64_t pool_radius,
                         const Labels& sequences, std::int64_t memory_limit) {
    NeighborSearch search;
    search.corpus = matrix_view(corpus, "X");
    if (queries) search.queries = matrix_view(*queries, "queries");
    if (mirrored) search.mirrored = matrix_view(*mirrored, "mirrored");
    search.correlation = correlation;
    search.groups = labels_view(groups, "groups");
    search.query_groups = labels_view(query_groups, "query_groups");
    search.group_window = group_window;
    search.pool_radius = pool_radius;
    search.sequences = labels_view(sequences, "sequences");
    search.memory_limit = memory_limit;
    return search;
}

py::tuple neighbors(const Array<float>& corpus, const std::optional<Array<float>>& queries,
                    const std::optional<Array<float>>& mirrored, std::int64_t k,
                    std::int64_t n_bottom, bool correlation, const Labels& groups,
                    const Labels& query_groups, std::int64_t group_window, std::int64_t pool_radius,
                    const Labels& sequences, const std::string& precision,
                    std::int64_t memory_limit, int num_threads, const py::object& progress) {
    require(k >= 0 && n_bottom >= 0, "k and n_bottom must be at least 0");
    NeighborSearch search = search_of(corpus, queries, mirrored, correlation, groups, query_groups,
                                      group_window, pool_radius, sequences, memory_limit);
    search.precision = precision_of(precision);
    const std::int64_t rows = queries ? search.queries.rows : search.corpus.rows;
    Array<std::int64_t> indices({rows, k});
    Array<float> similarities({rows, k});
    Array<std::int64_t> bottom_indices({rows, n_bottom});
    Array<float> bottom_similarities({rows, n_bottom});
    Array<bool> flips({mirrored ? rows : 0, k});
    Array<bool> bottom_flips({mirrored ? rows : 0, n_bottom});
    NeighborLists out{mutable_matrix_view(indices),
                      mutable_matrix_view(similarities),
                      mutable_matrix_view(bottom_indices),
                      mutable_matrix_view(bottom_similarities),
                      {},
                      {}};
    if (mirrored) {
        out.flips = mutable_matrix_view(flips);
        out.bottom_flips = mutable_matrix_view(bottom_flips);
    }
    const NeighborReport report = run_kernel(num_threads, progress, [&](const Context& context) {
        return find_neighbors(search, out, context);
    });
    const auto flips_or_none = [&](const Array<bool>& array) {
        return mirrored ? py::object(array) : py::object(py::none());
    };
    return py::make_tuple(indices, similarities, bottom_indices, bottom_similarities,
                          flips_or_none(flips), flips_or_none(bottom_flips), as_dict(report));
}

Array<float> similarity_quantiles(const Array<float>& corpus,
                                  const std::optional<Array<float>>& queries,
                                  const std::optional<Array<float>>& mirrored,
                                  const Array<double>& probabilities, bool correlation,
                                  const Labels& groups, const Labels& query_groups,
                                  std::int64_t group_window, std::int64_t pool_radius,
                                  const Labels& sequences, std::int64_t memory_limit,
                                  int num_threads, const py::object& progress) {
    const NeighborSearch search =
        search_of(corpus, queries, mirrored, correlation, groups, query_groups, group_window,
                  pool_radius, sequences, memory_limit);
    const std::span<const double> levels = vector_view(probabilities, "quantiles");
    Array<float> out({queries ? search.queries.rows : search.corpus.rows,
                      static_cast<std::int64_t>(levels.size())});
    const MatrixView<float> view = mutable_matrix_view(out);
    run_kernel(num_threads, progress, [&](const Context& context) {
        similarity_quantiles(search, levels, view, context);
    });
    return out;
}

}  // namespace

void register_neighbors(py::module_& module) {
    module.def("neighbors", &neighbors, py::arg("corpus").noconvert(),
               py::arg("queries").noconvert(), py::arg("mirrored").noconvert(), py::arg("k"),
               py::arg("n_bottom"), py::arg("correlation"), py::arg("groups").noconvert(),
               py::arg("query_groups").noconvert(), py::arg("group_window"), py::arg("pool_radius"),
               py::arg("sequences").noconvert(), py::arg("precision"), py::arg("memory_limit"),
               py::arg("num_threads"), py::arg("progress"));
    module.def("similarity_quantiles", &similarity_quantiles, py::arg("corpus").noconvert(),
               py::arg("queries").noconvert(), py::arg("mirrored").noconvert(),
               py::arg("probabilities").noconvert(), py::arg("correlation"),
               py::arg("groups").noconvert(), py::arg("query_groups").noconvert(),
               py::arg("group_window"), py::arg("pool_radius"), py::arg("sequences").noconvert(),
               py::arg("memory_limit"), py::arg("num_threads"), py::arg("progress"));
    module.def("neighbor_products", [] { return std::string(int16_instructions()); });
    module.def("has_vnni", &has_vnni);
    module.def("_multiply_add_rate", &multiply_add_rate, py::arg("seconds"));
}

}  // namespace cliquesim::bindings
