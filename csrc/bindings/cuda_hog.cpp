#include <pybind11/pybind11.h>

#include <cstdint>

#include "bindings/cuda_stages.hpp"
#include "hog/hog_cuda.hpp"

namespace py = pybind11;

namespace cliquesim::bindings {

namespace {

void describe(std::uintptr_t frames, std::int64_t count, std::int64_t height, std::int64_t width,
              int channels, std::int64_t cell_size, std::uintptr_t features, int device,
              std::uintptr_t stream) {
    const hog::Frames view{reinterpret_cast<const std::uint8_t*>(frames), count, height, width,
                           channels};
    const py::gil_scoped_release release;
    cuda::launch_hog(view, cell_size, reinterpret_cast<float*>(features), device, stream);
}

}  // namespace

void register_cuda_hog(py::module_& module) {
    module.def("hog", &describe, py::arg("frames"), py::arg("count"), py::arg("height"),
               py::arg("width"), py::arg("channels"), py::arg("cell_size"), py::arg("features"),
               py::arg("device"), py::arg("stream"));
}

}  // namespace cliquesim::bindings
