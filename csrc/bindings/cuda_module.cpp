// The optional module _cuda. It links neither torch nor cuBLAS: the Python layer hands over
// addresses of device memory that it owns, and the caller's stream.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <tuple>

#include "bindings/cuda_stages.hpp"
#include "common/device_status.hpp"
#include "common/errors.hpp"
#include "temporal/temporal_cuda.hpp"

namespace py = pybind11;

namespace {

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// A side of the grid: addresses of positions (int64), before and after (int32), and their count.
using Side = std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t, std::int64_t>;

void pool(std::uintptr_t products, std::int64_t product_stride, const Side& rows, const Side& cols,
          std::uintptr_t out, std::int64_t out_stride, int device, std::uintptr_t stream) {
    const auto& [row_positions, row_before, row_after, row_count] = rows;
    const auto& [col_positions, col_before, col_after, col_count] = cols;
    const cliquesim::PoolGrid grid{pointer<const float>(products),
                                   product_stride,
                                   pointer<const std::int64_t>(row_positions),
                                   pointer<const std::int32_t>(row_before),
                                   pointer<const std::int32_t>(row_after),
                                   row_count,
                                   pointer<const std::int64_t>(col_positions),
                                   pointer<const std::int32_t>(col_before),
                                   pointer<const std::int32_t>(col_after),
                                   col_count,
                                   pointer<float>(out),
                                   out_stride};
    const py::gil_scoped_release release;
    cliquesim::cuda::launch_pooling(grid, device, stream);
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
    py::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const cliquesim::Interrupted&) {
            // PythonMonitor left KeyboardInterrupt (or the callback's error) set on this thread.
            if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
        }
    });
    module.def("device_status", [] {
        const auto status = cliquesim::cuda::device_status();
        return py::make_tuple(status.count, status.problem);
    });
    module.def("pool", &pool, py::arg("products"), py::arg("product_stride"), py::arg("rows"),
               py::arg("cols"), py::arg("out"), py::arg("out_stride"), py::arg("device"),
               py::arg("stream"));
    cliquesim::bindings::register_cuda_batches(module);
    cliquesim::bindings::register_cuda_hog(module);
    cliquesim::bindings::register_cuda_linkage(module);
    cliquesim::bindings::register_cuda_neighbors(module);
    cliquesim::bindings::register_cuda_training(module);
}
