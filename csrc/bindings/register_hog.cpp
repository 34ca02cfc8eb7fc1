#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "hog/hog.hpp"

namespace cliquesim::bindings {

void register_hog(py::module_& module) {
    module.def(
        "hog",
        [](const Array<std::uint8_t>& frames, Array<float> features, std::int64_t cell_size,
           int num_threads, const py::object& progress) {
            require(frames.ndim() == 4, "frames must have 4 dimensions");
            require(cell_size >= 1, "cell_size must be at least 1");
            const hog::Frames view{frames.data(), frames.shape(0), frames.shape(1), frames.shape(2),
                                   static_cast<int>(frames.shape(3))};
            require(features.ndim() == 4 && features.shape(0) == view.count &&
                        features.shape(1) == hog::cells_along(view.height, cell_size) - 2 &&
                        features.shape(2) == hog::cells_along(view.width, cell_size) - 2 &&
                        features.shape(3) == hog::num_channels,
                    "features must have shape (N, h, w, 31)");
            float* out = features.mutable_data();
            run_kernel(num_threads, progress, [&](const Context& context) {
                hog::describe(view, cell_size, out, context);
            });
        },
        py::arg("frames").noconvert(), py::arg("features").noconvert(), py::arg("cell_size"),
        py::arg("num_threads"), py::arg("progress"));
}

}  // namespace cliquesim::bindings
