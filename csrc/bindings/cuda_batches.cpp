#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "batches/batches_cuda.hpp"
#include "bindings/cuda_stages.hpp"

namespace py = pybind11;

namespace cliquesim::bindings {

namespace {

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

void row_sums(std::uintptr_t offsets, std::uintptr_t columns, std::int64_t rows,
              std::uintptr_t values, std::int64_t width, std::int64_t count, std::uintptr_t out,
              int device, std::uintptr_t stream) {
    const RowSums sums{pointer<const std::int64_t>(offsets),
                       pointer<const std::int64_t>(columns),
                       rows,
                       pointer<const double>(values),
                       width,
                       count,
                       pointer<double>(out)};
    const py::gil_scoped_release release;
    cuda::launch_row_sums(sums, device, stream);
}

// In the order of KickTables: K, N, B, r; and the addresses.
using Sizes = std::array<std::int64_t, 4>;
using Tables = std::array<std::uintptr_t, 12>;
// Members, total, similarity, selected of the states; scratch, trails, results.
using Workspace = std::array<std::uintptr_t, 7>;

KickTables kick_tables(const Sizes& sizes, double tolerance, const Tables& a) {
    using Index = const std::int64_t;
    return {sizes[0],
            sizes[1],
            sizes[2],
            sizes[3],
            tolerance,
            pointer<const double>(a[0]),
            pointer<const double>(a[1]),
            pointer<const double>(a[2]),
            pointer<const double>(a[3]),
            pointer<Index>(a[4]),
            pointer<Index>(a[5]),
            pointer<Index>(a[6]),
            pointer<Index>(a[7]),
            pointer<Index>(a[8]),
            pointer<Index>(a[9]),
            pointer<Index>(a[10]),
            pointer<Index>(a[11])};
}

void kick_round(const Sizes& sizes, double tolerance, const Tables& tables, const Workspace& w,
                std::int32_t capacity, std::uint64_t seed, std::int64_t first, std::int64_t count,
                int device, std::uintptr_t stream) {
    const KickState states{pointer<std::int32_t>(w[0]), pointer<std::int32_t>(w[1]),
                           pointer<double>(w[2]), pointer<std::uint8_t>(w[3])};
    const cuda::KickWorkspace workspace{states, pointer<double>(w[4]), pointer<KickMove>(w[5]),
                                        pointer<KickResult>(w[6]), capacity};
    const py::gil_scoped_release release;
    cuda::launch_kick_round(kick_tables(sizes, tolerance, tables), workspace, seed, first, count,
                            device, stream);
}

}  // namespace

void register_cuda_batches(py::module_& module) {
    module.def("row_sums", &row_sums, py::arg("offsets"), py::arg("columns"), py::arg("rows"),
               py::arg("values"), py::arg("width"), py::arg("count"), py::arg("out"),
               py::arg("device"), py::arg("stream"));
    module.def("kick_round", &kick_round, py::arg("sizes"), py::arg("tolerance"), py::arg("tables"),
               py::arg("workspace"), py::arg("capacity"), py::arg("seed"), py::arg("first"),
               py::arg("count"), py::arg("device"), py::arg("stream"));
}

}  // namespace cliquesim::bindings
