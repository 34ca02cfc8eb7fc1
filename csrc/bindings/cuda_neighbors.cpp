#include <pybind11/pybind11.h>

#include <cstdint>
#include <tuple>

#include "bindings/cuda_stages.hpp"
#include "neighbors/neighbors_cuda.hpp"

namespace py = pybind11;

namespace cliquesim::bindings {

namespace {

// Addresses are 0 where there is nothing.
using Address = std::uintptr_t;
// Similarities, those of the mirror images, and the stride of both.
using Values = std::tuple<Address, Address, std::int64_t>;
// First row (or column) of the tile, how many, the labels of all, how they were rounded, and of
// rows their indices among all.
using Side = std::tuple<std::int64_t, std::int64_t, Address, Address, Address>;
// Keys, bounds and k of the lists, fresh candidates and their counts.
using End = std::tuple<Address, Address, std::int64_t, Address, Address>;

template <typename T>
T* pointer(Address address) {
    return reinterpret_cast<T*>(address);
}

DeviceTile tile_of(const Values& values, const Side& rows, const Side& cols, bool symmetric,
                   std::int64_t group_window) {
    const auto& [plain, mirrored, stride] = values;
    const auto& [first_row, row_count, row_groups, row_rounding, row_ids] = rows;
    const auto& [first_col, col_count, col_groups, col_rounding, col_ids] = cols;
    const Exclusion excluded{symmetric, pointer<const std::int64_t>(row_groups),
                             pointer<const std::int64_t>(col_groups), group_window};
    return {pointer<const float>(plain),
            pointer<const float>(mirrored),
            stride,
            row_count,
            col_count,
            first_row,
            first_col,
            false,
            excluded,
            pointer<const RoundedRow>(row_rounding),
            pointer<const RoundedRow>(col_rounding),
            pointer<const std::int64_t>(row_ids)};
}

SearchEnd end_of(const End& end, float sign) {
    const auto& [keys, bounds, k, fresh, counts] = end;
    return {{pointer<std::uint64_t>(keys), pointer<float>(bounds), k},
            sign,
            pointer<std::uint64_t>(fresh),
            pointer<std::int32_t>(counts)};
}

void add_tile(const Values& values, const Side& rows, const Side& cols, bool symmetric,
              std::int64_t group_window, bool serves_cols, const End& top, const End& bottom,
              int device, Address stream) {
    TileStep step{tile_of(values, rows, cols, symmetric, group_window),
                  {end_of(top, 1), end_of(bottom, -1)}};
    step.tile.serves_cols = serves_cols;
    const py::gil_scoped_release release;
    cuda::launch_tile(step, device, stream);
}

void decide_candidates(Address rows, Address cols, std::int64_t row_count, std::int64_t dimensions,
                       Address candidates, std::int64_t room, Address keys, Address bounds,
                       std::int64_t k, float sign, Address decided, int device, Address stream) {
    const CandidateDecision all{pointer<const float>(rows),
                                pointer<const float>(cols),
                                row_count,
                                dimensions,
                                pointer<const std::uint64_t>(candidates),
                                room,
                                {pointer<std::uint64_t>(keys), pointer<float>(bounds), k},
                                sign,
                                pointer<std::int32_t>(decided)};
    const py::gil_scoped_release release;
    cuda::launch_decision(all, device, stream);
}

void write_neighbors(Address keys, std::int64_t k, float sign, std::int64_t rows, std::int64_t cols,
                     Address indices, Address similarities, Address flips, int device,
                     Address stream) {
    const NeighborOutput out{rows, cols, pointer<std::int64_t>(indices),
                             pointer<float>(similarities), pointer<bool>(flips)};
    const py::gil_scoped_release release;
    cuda::launch_output({pointer<std::uint64_t>(keys), nullptr, k}, sign, out, device, stream);
}

void row_quantiles(const Values& values, const Side& rows, const Side& cols, bool symmetric,
                   std::int64_t group_window, Address levels, std::int64_t level_count, Address out,
                   int device, Address stream) {
    const QuantileRows all{tile_of(values, rows, cols, symmetric, group_window),
                           pointer<float>(std::get<0>(values)), pointer<const double>(levels),
                           level_count, pointer<float>(out)};
    const py::gil_scoped_release release;
    cuda::launch_quantiles(all, device, stream);
}

}  // namespace

void register_cuda_neighbors(py::module_& module) {
    module.attr("fresh_room") = fresh_room;
    module.def("add_tile", &add_tile, py::arg("values"), py::arg("rows"), py::arg("cols"),
               py::arg("symmetric"), py::arg("group_window"), py::arg("serves_cols"),
               py::arg("top"), py::arg("bottom"), py::arg("device"), py::arg("stream"));
    module.def("decide_candidates", &decide_candidates, py::arg("rows"), py::arg("cols"),
               py::arg("row_count"), py::arg("dimensions"), py::arg("candidates"), py::arg("room"),
               py::arg("keys"), py::arg("bounds"), py::arg("k"), py::arg("sign"),
               py::arg("decided"), py::arg("device"), py::arg("stream"));
    module.def("write_neighbors", &write_neighbors, py::arg("keys"), py::arg("k"), py::arg("sign"),
               py::arg("rows"), py::arg("cols"), py::arg("indices"), py::arg("similarities"),
               py::arg("flips"), py::arg("device"), py::arg("stream"));
    module.def("row_quantiles", &row_quantiles, py::arg("values"), py::arg("rows"), py::arg("cols"),
               py::arg("symmetric"), py::arg("group_window"), py::arg("levels"),
               py::arg("level_count"), py::arg("out"), py::arg("device"), py::arg("stream"));
}

}  // namespace cliquesim::bindings
