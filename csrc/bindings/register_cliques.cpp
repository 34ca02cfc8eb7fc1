#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "cliques/cliques.hpp"

namespace cliquesim::bindings {

namespace {

using Labels = std::optional<Array<std::int64_t>>;
using Indices = Array<std::int64_t>;

std::span<const std::int64_t> labels_view(const Labels& labels, const char* name,
                                          std::int64_t rows) {
    if (!labels) return {};
    const auto view = vector_view(*labels, name);
    require(static_cast<std::int64_t>(view.size()) == rows,
            std::string(name) + " must have one entry per row of X");
    return view;
}

Descriptors make_descriptors(const Array<float>& X, const Labels& sequences,
                             std::int64_t pool_radius) {
    require(pool_radius >= 0, "pool_radius must be at least 0");
    const auto rows = matrix_view(X, "X");
    return {rows, labels_view(sequences, "sequences", rows.rows), pool_radius};
}

CliqueRules make_rules(const Descriptors& descriptors, const Labels& groups, std::int64_t per_group,
                       std::int64_t group_window, std::int64_t max_size) {
    require(per_group >= 1 && group_window >= 0 && max_size >= 0, "per_group must be at least 1");
    return {labels_view(groups, "groups", descriptors.rows.rows), per_group, group_window,
            max_size};
}

void require_frames(std::span<const std::int64_t> frames, std::int64_t n, std::int64_t smallest,
                    const char* name) {
    for (const std::int64_t frame : frames)
        require(frame >= smallest && frame < n, std::string(name) + " has index " +
                                                    std::to_string(frame) + ", but there are " +
                                                    std::to_string(n) + " rows");
}

CliqueList make_list(const Indices& offsets, const Indices& members,
                     const std::optional<Array<double>>& intra, std::int64_t n) {
    const auto starts = vector_view(offsets, "offsets");
    const auto frames = vector_view(members, "members");
    require(!starts.empty() && starts.front() == 0 &&
                starts.back() == static_cast<std::int64_t>(frames.size()) &&
                std::is_sorted(starts.begin(), starts.end()),
            "offsets must ascend from 0 to the number of members");
    require_frames(frames, n, 0, "members");
    CliqueList list;
    list.offsets.assign(starts.begin(), starts.end());
    list.members.assign(frames.begin(), frames.end());
    list.intra.assign(starts.size() - 1, 1.0);
    if (intra) {
        const auto values = vector_view(*intra, "intra");
        require(values.size() == list.intra.size(), "intra must have one entry per clique");
        list.intra.assign(values.begin(), values.end());
    }
    return list;
}

py::tuple give_list(CliqueList&& list) {
    const auto cliques = static_cast<py::ssize_t>(list.intra.size());
    const auto total = static_cast<py::ssize_t>(list.members.size());
    return py::make_tuple(take_vector(std::move(list.offsets), {cliques + 1}),
                          take_vector(std::move(list.members), {total}),
                          take_vector(std::move(list.intra), {cliques}));
}

py::tuple candidates(const Array<float>& X, const Indices& neighbors, const Labels& groups,
                     const Labels& sequences, std::int64_t pool_radius, float threshold,
                     std::int64_t per_group, std::int64_t group_window, std::int64_t max_size,
                     int num_threads, const py::object& progress) {
    const Descriptors descriptors = make_descriptors(X, sequences, pool_radius);
    const CliqueRules rules = make_rules(descriptors, groups, per_group, group_window, max_size);
    const auto lists = matrix_view(neighbors, "neighbors");
    require_frames({lists.data, static_cast<std::size_t>(lists.rows * lists.cols)},
                   descriptors.rows.rows, -1, "neighbors");
    return give_list(run_kernel(num_threads, progress, [&](const Context& context) {
        return candidate_cliques(descriptors, lists, rules, threshold, context);
    }));
}

py::tuple distinct(const Indices& offsets, const Indices& members, const Array<double>& intra,
                   std::int64_t min_size, std::int64_t n) {
    const CliqueList list = make_list(offsets, members, intra, n);
    return give_list(run_kernel(1, py::none(),
                                [&](const Context&) { return distinct_cliques(list, min_size); }));
}

py::tuple merge(const Array<float>& X, const Indices& offsets, const Indices& members,
                const Array<double>& intra, const Labels& groups, const Labels& sequences,
                std::int64_t pool_radius, std::int64_t per_group, std::int64_t group_window,
                std::int64_t max_size, const std::string& overlap, double min_overlap, double ratio,
                std::int64_t max_edges, std::int64_t max_posting, int num_threads,
                const py::object& progress) {
    const Descriptors descriptors = make_descriptors(X, sequences, pool_radius);
    const CliqueRules rules = make_rules(descriptors, groups, per_group, group_window, max_size);
    const CliqueList list = make_list(offsets, members, intra, descriptors.rows.rows);
    require(overlap == "smaller" || overlap == "jaccard", "overlap must be smaller or jaccard");
    require(max_edges >= 1 && max_posting >= 1, "max_edges and max_posting must be at least 1");
    const MergeOptions options{overlap == "jaccard" ? Overlap::jaccard : Overlap::smaller,
                               min_overlap, ratio, max_edges, max_posting};
    MergeReport report;
    py::tuple result = give_list(run_kernel(num_threads, progress, [&](const Context& context) {
        return merge_cliques(descriptors, list, rules, options, context, report);
    }));
    py::dict numbers;
    numbers["overlap_edges"] = report.edges;
    numbers["merge_rounds"] = report.rounds;
    numbers["merges"] = report.merges;
    numbers["vetoes"] = report.vetoes;
    return py::make_tuple(result, numbers);
}

Indices cover(const Indices& offsets, const Indices& members, const Array<double>& intra,
              std::int64_t n, std::int64_t count) {
    const CliqueList list = make_list(offsets, members, intra, n);
    auto chosen =
        run_kernel(1, py::none(), [&](const Context&) { return cover_greedily(list, n, count); });
    const auto size = static_cast<py::ssize_t>(chosen.size());
    return take_vector(std::move(chosen), {size});
}

Array<double> means(const Array<float>& X, const Indices& offsets, const Indices& members,
                    const Labels& sequences, std::int64_t pool_radius, std::int64_t shift,
                    int num_threads) {
    const Descriptors descriptors = make_descriptors(X, sequences, pool_radius);
    const CliqueList list = make_list(offsets, members, std::nullopt, descriptors.rows.rows);
    require(std::abs(shift) <= pool_radius, "shift must lie within the pooling radius");
    Array<double> result({list.size(), descriptors.rows.cols});
    const auto out = mutable_matrix_view(result);
    run_kernel(num_threads, py::none(), [&](const Context& context) {
        clique_means(descriptors, list, shift, out, context);
    });
    return result;
}

Array<float> pairs(const Array<float>& X, const Indices& first, const Indices& second,
                   const Labels& sequences, std::int64_t pool_radius, int num_threads) {
    const Descriptors descriptors = make_descriptors(X, sequences, pool_radius);
    const auto i = vector_view(first, "first"), j = vector_view(second, "second");
    require_frames(i, descriptors.rows.rows, 0, "first");
    require_frames(j, descriptors.rows.rows, 0, "second");
    Array<float> result(first.shape(0));
    const std::span<float> out(result.mutable_data(), static_cast<std::size_t>(result.size()));
    run_kernel(num_threads, py::none(),
               [&](const Context& context) { pair_similarities(descriptors, i, j, out, context); });
    return result;
}

}  // namespace

void register_cliques(py::module_& module) {
    module.def("candidate_cliques", &candidates, py::arg("X").noconvert(),
               py::arg("neighbors").noconvert(), py::arg("groups").noconvert(),
               py::arg("sequences").noconvert(), py::arg("pool_radius"), py::arg("threshold"),
               py::arg("per_group"), py::arg("group_window"), py::arg("max_size"),
               py::arg("num_threads"), py::arg("progress"));
    module.def("distinct_cliques", &distinct, py::arg("offsets").noconvert(),
               py::arg("members").noconvert(), py::arg("intra").noconvert(), py::arg("min_size"),
               py::arg("n"));
    module.def("merge_cliques", &merge, py::arg("X").noconvert(), py::arg("offsets").noconvert(),
               py::arg("members").noconvert(), py::arg("intra").noconvert(),
               py::arg("groups").noconvert(), py::arg("sequences").noconvert(),
               py::arg("pool_radius"), py::arg("per_group"), py::arg("group_window"),
               py::arg("max_size"), py::arg("overlap"), py::arg("min_overlap"), py::arg("ratio"),
               py::arg("max_edges"), py::arg("max_posting"), py::arg("num_threads"),
               py::arg("progress"));
    module.def("cover_greedily", &cover, py::arg("offsets").noconvert(),
               py::arg("members").noconvert(), py::arg("intra").noconvert(), py::arg("n"),
               py::arg("count"));
    module.def("clique_means", &means, py::arg("X").noconvert(), py::arg("offsets").noconvert(),
               py::arg("members").noconvert(), py::arg("sequences").noconvert(),
               py::arg("pool_radius"), py::arg("shift"), py::arg("num_threads"));
    module.def("pair_similarities", &pairs, py::arg("X").noconvert(), py::arg("first").noconvert(),
               py::arg("second").noconvert(), py::arg("sequences").noconvert(),
               py::arg("pool_radius"), py::arg("num_threads"));
}

}  // namespace cliquesim::bindings
