#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "common/bfloat16.hpp"
#include "training/training.hpp"

namespace cliquesim::bindings {

namespace {

// One row of `each` values per frame; an empty array stands for none.
template <typename T>
std::span<const T> rows_of(const Array<T>& array, py::ssize_t count, py::ssize_t each,
                           const char* name) {
    if (array.size() == 0) return {};
    require(array.ndim() == 2 && array.shape(0) == count && array.shape(1) == each,
            std::string(name) + " must have shape (n, " + std::to_string(each) + ")");
    return {array.data(), static_cast<std::size_t>(array.size())};
}

// One value per channel.
template <typename T>
std::span<const float> per_channel(const Array<float>& array, const MatrixView<const T>& x,
                                   const char* name) {
    require(array.ndim() == 1 && array.shape(0) == x.cols,
            std::string(name) + " must have a value per channel");
    return vector_view(array, name);
}

// `Stored` is what NumPy holds, T what it stands for.
template <typename T, typename Stored>
MatrixView<const T> channels_last(const Array<Stored>& array, const char* name) {
    const auto stored = matrix_view(array, name);
    return {reinterpret_cast<const T*>(stored.data), stored.rows, stored.cols};
}

template <typename T, typename Stored>
T* written_like(Array<Stored>& array, const MatrixView<const T>& x, const char* name) {
    require(array.ndim() == 2 && array.shape(0) == x.rows && array.shape(1) == x.cols,
            std::string(name) + " must have the shape of x");
    return reinterpret_cast<T*>(array.mutable_data());
}

template <typename T, typename Stored>
void register_normalisation(py::module_& module) {
    module.def(
        "normalise_and_rectify",
        [](const Array<Stored>& x, const Array<float>& weight, const Array<float>& bias,
           float epsilon, Array<Stored> y, Array<float> mean, Array<float> variance,
           int num_threads) {
            const auto rows = channels_last<T>(x, "x");
            const training::Normalisation norm{per_channel(weight, rows, "weight"),
                                               per_channel(bias, rows, "bias"), epsilon};
            per_channel(mean, rows, "mean");
            per_channel(variance, rows, "variance");
            T* out = written_like(y, rows, "y");
            float *first = mean.mutable_data(), *second = variance.mutable_data();
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                training::normalise_and_rectify(rows, norm, out, first, second, context);
            });
        },
        py::arg("x").noconvert(), py::arg("weight").noconvert(), py::arg("bias").noconvert(),
        py::arg("epsilon"), py::arg("y").noconvert(), py::arg("mean").noconvert(),
        py::arg("variance").noconvert(), py::arg("num_threads"));
    module.def(
        "normalise_and_rectify_gradient",
        [](const Array<Stored>& x, const Array<Stored>& dy, const Array<float>& weight,
           const Array<float>& bias, float epsilon, const Array<float>& mean,
           const Array<float>& variance, Array<Stored> dx, Array<float> dweight, Array<float> dbias,
           int num_threads) {
            const auto rows = channels_last<T>(x, "x");
            const auto above = channels_last<T>(dy, "dy");
            require(above.rows == rows.rows && above.cols == rows.cols,
                    "dy must have the shape of x");
            const training::Normalisation norm{per_channel(weight, rows, "weight"),
                                               per_channel(bias, rows, "bias"), epsilon};
            const float* first = per_channel(mean, rows, "mean").data();
            const float* second = per_channel(variance, rows, "variance").data();
            per_channel(dweight, rows, "dweight");
            per_channel(dbias, rows, "dbias");
            T* out = written_like(dx, rows, "dx");
            float *of_weight = dweight.mutable_data(), *of_bias = dbias.mutable_data();
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                training::normalise_and_rectify_gradient(rows, above.data, norm, first, second, out,
                                                         of_weight, of_bias, context);
            });
        },
        py::arg("x").noconvert(), py::arg("dy").noconvert(), py::arg("weight").noconvert(),
        py::arg("bias").noconvert(), py::arg("epsilon"), py::arg("mean").noconvert(),
        py::arg("variance").noconvert(), py::arg("dx").noconvert(), py::arg("dweight").noconvert(),
        py::arg("dbias").noconvert(), py::arg("num_threads"));
}

}  // namespace

void register_training(py::module_& module) {
    module.def(
        "augment",
        [](const Array<std::uint8_t>& frames, const Array<float>& affine,
           const Array<float>& colour, const Array<std::int64_t>& others,
           const Array<float>& ellipse, float softness, const Array<float>& erase,
           Array<float> images, int num_threads) {
            require(frames.ndim() == 4 && frames.shape(3) == 3, "frames must be (n, H, W, 3)");
            const training::Frames view{frames.data(), frames.shape(0), frames.shape(1),
                                        frames.shape(2)};
            require(images.ndim() == 4 && images.shape(0) == view.count && images.shape(1) == 3 &&
                        images.shape(2) == view.height && images.shape(3) == view.width,
                    "images must have shape (n, 3, H, W)");
            const training::Changes changes{rows_of(affine, view.count, 6, "affine"),
                                            rows_of(colour, view.count, 6, "colour"),
                                            rows_of(others, view.count, 1, "others"),
                                            rows_of(ellipse, view.count, 2, "ellipse"),
                                            softness,
                                            rows_of(erase, view.count, 4, "erase")};
            float* out = images.mutable_data();
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                training::augment(view, changes, out, context);
            });
        },
        py::arg("frames").noconvert(), py::arg("affine").noconvert(), py::arg("colour").noconvert(),
        py::arg("others").noconvert(), py::arg("ellipse").noconvert(), py::arg("softness"),
        py::arg("erase").noconvert(), py::arg("images").noconvert(), py::arg("num_threads"));
    module.def(
        "gradient_channels",
        [](const Array<float>& images, int window, float floor, const Array<float>& rows,
           const Array<float>& columns, Array<float> channels, int num_threads) {
            require(images.ndim() == 4 && images.shape(1) == 3, "images must be (n, 3, H, W)");
            const training::Images view{images.data(), images.shape(0), images.shape(2),
                                        images.shape(3)};
            require(channels.ndim() == 4 && channels.shape(0) == view.count &&
                        channels.shape(1) == view.height && channels.shape(2) == view.width &&
                        channels.shape(3) == 3,
                    "channels must have shape (n, H, W, 3)");
            const auto row_weights = rows_of(rows, view.count, view.height, "rows");
            const auto column_weights = rows_of(columns, view.count, view.width, "columns");
            float* out = channels.mutable_data();
            run_kernel(num_threads, py::none(), [&](const Context& context) {
                training::gradient_channels(view, {window, floor}, row_weights, column_weights, out,
                                            context);
            });
        },
        py::arg("images").noconvert(), py::arg("window"), py::arg("floor"),
        py::arg("rows").noconvert(), py::arg("columns").noconvert(),
        py::arg("channels").noconvert(), py::arg("num_threads"));
    register_normalisation<float, float>(module);
    register_normalisation<Bfloat16, std::int16_t>(module);
}

}  // namespace cliquesim::bindings
