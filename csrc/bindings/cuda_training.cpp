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
    using Words = Four<std::uint32_t>;
    const training::GatherGrid grid{pointer<const Words>(corpus),
                                    stride / static_cast<std::int64_t>(sizeof(Words)),
                                    changes_at(changes), count, pointer<Words>(out)};
    const py::gil_scoped_release release;
    cuda::launch_gather(grid, {device, stream});
}

void augment(std::uintptr_t corpus, std::int64_t stride, bool gathered, std::uintptr_t changes,
             std::int64_t count, std::int32_t height, std::int32_t width,
             const std::array<bool, 4>& steps, float softness, std::uintptr_t means, float mean,
             float scale, bool fades, std::int32_t block, std::int32_t pitch, std::uintptr_t out,
             bool bfloat16, int device, std::uintptr_t stream) {
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
                                     fades,
                                     block,
                                     pitch};
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

using ActivationShape =
    std::tuple<std::int64_t, std::int32_t, std::int32_t, std::int32_t>;  // count, H, W, C
using ActivationSteps = std::tuple<bool, bool, bool>;  // rectifies, normalises, pools

training::Activation make_activation(const ActivationShape& shape, const ActivationSteps& steps,
                                     const std::array<float, 3>& norm) {
    const auto& [count, height, width, channels] = shape;
    const auto& [rectifies, normalises, pools] = steps;
    return {count,      height, width,   channels, rectifies,
            normalises, pools,  norm[0], norm[1],  norm[2]};
}

// Addresses of one tensor, or of two with half of the channels each.
using Parts = std::vector<std::uintptr_t>;

template <typename T>
training::Channels<T> channels_at(const training::Activation& activation, const Parts& parts) {
    if (parts.size() != 1 && parts.size() != 2) throw py::value_error("one part or two");
    const auto count = static_cast<std::int32_t>(parts.size());
    if (activation.channels % (8 * count) != 0)
        throw py::value_error("two parts take a multiple of 16 channels");
    return {{pointer<T>(parts.front()), pointer<T>(parts.back())}, activation.channels / count};
}

void activation(const ActivationShape& shape, const ActivationSteps& steps,
                const std::array<float, 3>& norm, const Parts& x, std::uintptr_t bias,
                const Parts& y, std::uintptr_t places, bool bfloat16, int device,
                std::uintptr_t stream) {
    const auto one = make_activation(shape, steps, norm);
    const auto launch = [&](auto type) {
        using T = decltype(type);
        const training::ActivationForward<T> tensors{channels_at<const T>(one, x),
                                                     pointer<const T>(bias), channels_at<T>(one, y),
                                                     pointer<std::uint8_t>(places)};
        const py::gil_scoped_release release;
        cuda::launch_activation(one, tensors, {device, stream});
    };
    bfloat16 ? launch(Bfloat16{}) : launch(float{});
}

std::int64_t activation_gradient_blocks(const ActivationShape& shape,
                                        const ActivationSteps& steps) {
    return cuda::activation_gradient_blocks(make_activation(shape, steps, {}));
}

void activation_gradient(const ActivationShape& shape, const ActivationSteps& steps,
                         const std::array<float, 3>& norm, const Parts& x, std::uintptr_t bias,
                         const Parts& dy, std::uintptr_t places, const Parts& dx,
                         std::uintptr_t bias_sums, std::uintptr_t bias_gradient,
                         bool bfloat16_bias_gradient, bool bfloat16, int device,
                         std::uintptr_t stream) {
    const auto one = make_activation(shape, steps, norm);
    const auto launch = [&](auto type) {
        using T = decltype(type);
        const training::ActivationBackward<T> tensors{
            channels_at<const T>(one, x),  pointer<const T>(bias),
            channels_at<const T>(one, dy), pointer<const std::uint8_t>(places),
            channels_at<T>(one, dx),       pointer<float>(bias_sums)};
        const py::gil_scoped_release release;
        cuda::launch_activation_gradient(one, tensors, {device, stream});
        if (bias_sums == 0) return;
        const training::BiasTotal total{tensors.bias_sums, cuda::activation_gradient_blocks(one),
                                        one.channels, pointer<void>(bias_gradient),
                                        bfloat16_bias_gradient};
        cuda::launch_bias_total(total, {device, stream});
    };
    bfloat16 ? launch(Bfloat16{}) : launch(float{});
}

// Addresses of weights, gradient, sums and weights in bfloat16 (or 0: then the gradient is
// float32); their count, and lambda of Eq. (7).
using AdagradAddresses =
    std::tuple<std::uintptr_t, std::uintptr_t, std::uintptr_t, std::uintptr_t, std::int64_t, float>;

void adagrad(const std::vector<AdagradAddresses>& tensors, std::uintptr_t rate, float epsilon,
             int device, std::uintptr_t stream) {
    std::vector<training::AdagradTensor> views;
    for (const auto& [weights, gradient, sums, rounded, count, decay] : tensors)
        views.push_back({pointer<float>(weights), pointer<const void>(gradient),
                         pointer<float>(sums), pointer<Bfloat16>(rounded), count, decay});
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
               py::arg("scale"), py::arg("fades"), py::arg("block"), py::arg("pitch"),
               py::arg("out"), py::arg("bfloat16"), py::arg("device"), py::arg("stream"));
    module.def("gradient_channels", &gradient_channels, py::arg("images"), py::arg("changes"),
               py::arg("count"), py::arg("height"), py::arg("width"), py::arg("window"),
               py::arg("floor"), py::arg("out"), py::arg("bfloat16"), py::arg("device"),
               py::arg("stream"));
    module.def("activation", &activation, py::arg("shape"), py::arg("steps"), py::arg("norm"),
               py::arg("x"), py::arg("bias"), py::arg("y"), py::arg("places"), py::arg("bfloat16"),
               py::arg("device"), py::arg("stream"));
    module.def("activation_gradient_blocks", &activation_gradient_blocks, py::arg("shape"),
               py::arg("steps"));
    module.def("activation_gradient", &activation_gradient, py::arg("shape"), py::arg("steps"),
               py::arg("norm"), py::arg("x"), py::arg("bias"), py::arg("dy"), py::arg("places"),
               py::arg("dx"), py::arg("bias_sums"), py::arg("bias_gradient"),
               py::arg("bfloat16_bias_gradient"), py::arg("bfloat16"), py::arg("device"),
               py::arg("stream"));
    module.def("adagrad", &adagrad, py::arg("tensors"), py::arg("rate"), py::arg("epsilon"),
               py::arg("device"), py::arg("stream"));
}

}  // namespace cliquesim::bindings
