#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include "bindings/cuda_stages.hpp"
#include "training/training_cuda.hpp"

namespace py = pybind11;

namespace cliquesim::bindings {

namespace {

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

const training::FrameChange* changes_at(std::uintptr_t address) {
    return pointer<const training::FrameChange>(address);
}

void gather(std::uintptr_t corpus, std::int64_t stride, std::uintptr_t changes, std::int64_t count,
            std::uintptr_t out, int device, std::uintptr_t stream) {
    using Piece = Four<std::uint32_t>;
    const training::GatherGrid grid{pointer<const Piece>(corpus),
                                    stride / static_cast<std::int64_t>(sizeof(Piece)),
                                    changes_at(changes), count, pointer<Piece>(out)};
    const py::gil_scoped_release release;
    cuda::launch_gather(grid, {device, stream});
}

void augment(std::uintptr_t corpus, std::int64_t stride, bool gathered, std::uintptr_t changes,
             std::int64_t count, std::int32_t height, std::int32_t width,
             const std::array<bool, 4>& steps, float softness, std::uintptr_t means, float mean,
             float scale, bool fades, std::uintptr_t out, bool bfloat16, int device,
             std::uintptr_t stream) {
    const training::AugmentGrid grid{pointer<const std::uint8_t>(corpus),
                                     stride,
                                     gathered,
                                     changes_at(changes),
                                     count,
                                     height,
                                     width,
                                     steps[0],
                                     steps[1],
                                     steps[2],
                                     steps[3],
                                     softness,
                                     pointer<float>(means),
                                     pointer<float>(means) + count,
                                     mean,
                                     scale,
                                     fades};
    const py::gil_scoped_release release;
    if (bfloat16)
        cuda::launch_augment(grid, pointer<Bfloat16>(out), {device, stream});
    else
        cuda::launch_augment(grid, pointer<float>(out), {device, stream});
}

void gradient_channels(std::uintptr_t images, std::uintptr_t changes, std::int64_t count,
                       std::int32_t height, std::int32_t width, int window, float floor,
                       std::uintptr_t out, bool bfloat16, int device, std::uintptr_t stream) {
    const training::GradientGrid grid{
        pointer<const float>(images), changes_at(changes), count, height, width, window / 2, floor};
    const py::gil_scoped_release release;
    if (bfloat16)
        cuda::launch_gradient_channels(grid, pointer<Bfloat16>(out), {device, stream});
    else
        cuda::launch_gradient_channels(grid, pointer<float>(out), {device, stream});
}

// Addresses of x and y, or of x, dy and dx.
template <typename T>
void normalise(const training::ResponseNorm& norm, const std::vector<std::uintptr_t>& values,
               const cuda::Place& place) {
    const auto* x = pointer<const Four<T>>(values[0]);
    if (values.size() == 2)
        cuda::launch_response_norm(norm, x, pointer<Four<T>>(values[1]), place);
    else
        cuda::launch_response_norm_gradient(norm, x, pointer<const Four<T>>(values[1]),
                                            pointer<Four<T>>(values[2]), place);
}

void response_norm(const std::vector<std::uintptr_t>& values, std::int64_t pixels,
                   std::int32_t channels, float share, float beta, float k, bool rectifies,
                   bool bfloat16, int device, std::uintptr_t stream) {
    if (values.size() != 2 && values.size() != 3)
        throw py::value_error("values must be x and y, or x, dy and dx");
    const training::ResponseNorm norm{pixels, channels, share, beta, k, rectifies};
    const py::gil_scoped_release release;
    if (bfloat16)
        normalise<Bfloat16>(norm, values, {device, stream});
    else
        normalise<float>(norm, values, {device, stream});
}

// Addresses of weights, gradient and sums; their count, and lambda of Eq. (7).
using AdagradAddresses =
    std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t, std::int64_t, float>;

void adagrad(const std::vector<AdagradAddresses>& tensors, std::uintptr_t rate, float epsilon,
             int device, std::uintptr_t stream) {
    std::vector<training::AdagradTensor> views;
    for (const auto& [weights, gradient, sums, count, decay] : tensors)
        views.push_back({pointer<float>(weights), pointer<const float>(gradient),
                         pointer<float>(sums), count, decay});
    const py::gil_scoped_release release;
    for (const auto& launch :
         training::adagrad_launches(views, pointer<const float>(rate), epsilon))
        cuda::launch_adagrad(launch, {device, stream});
}

}  // namespace

void register_cuda_training(py::module_& module) {
    module.def("gather", &gather, py::arg("corpus"), py::arg("stride"), py::arg("changes"),
               py::arg("count"), py::arg("out"), py::arg("device"), py::arg("stream"));
    module.def("augment", &augment, py::arg("corpus"), py::arg("stride"), py::arg("gathered"),
               py::arg("changes"), py::arg("count"), py::arg("height"), py::arg("width"),
               py::arg("steps"), py::arg("softness"), py::arg("means"), py::arg("mean"),
               py::arg("scale"), py::arg("fades"), py::arg("out"), py::arg("bfloat16"),
               py::arg("device"), py::arg("stream"));
    module.def("gradient_channels", &gradient_channels, py::arg("images"), py::arg("changes"),
               py::arg("count"), py::arg("height"), py::arg("width"), py::arg("window"),
               py::arg("floor"), py::arg("out"), py::arg("bfloat16"), py::arg("device"),
               py::arg("stream"));
    module.def("response_norm", &response_norm, py::arg("values"), py::arg("pixels"),
               py::arg("channels"), py::arg("share"), py::arg("beta"), py::arg("k"),
               py::arg("rectifies"), py::arg("bfloat16"), py::arg("device"), py::arg("stream"));
    module.def("adagrad", &adagrad, py::arg("tensors"), py::arg("rate"), py::arg("epsilon"),
               py::arg("device"), py::arg("stream"));
}

}  // namespace cliquesim::bindings
