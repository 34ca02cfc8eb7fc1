// NumPy arrays in and out, and the way every kernel is called: GIL released, Ctrl-C and progress
// through PythonMonitor.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "common/context.hpp"
#include "common/errors.hpp"
#include "common/matrix.hpp"

namespace cliquesim::bindings {

namespace py = pybind11;

// The Python layer hands over contiguous arrays of the right dtype; `py::arg().noconvert()` and
// these checks keep it so.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
MatrixView<const T> matrix_view(const Array<T>& array, const char* name) {
    require(array.ndim() == 2, std::string(name) + " must have 2 dimensions");
    return {array.data(), array.shape(0), array.shape(1)};
}

template <typename T>
MatrixView<T> mutable_matrix_view(Array<T>& array) {
    return {array.mutable_data(), array.shape(0), array.shape(1)};
}

template <typename T>
std::span<const T> vector_view(const Array<T>& array, const char* name) {
    require(array.ndim() == 1, std::string(name) + " must have 1 dimension");
    return {array.data(), static_cast<std::size_t>(array.shape(0))};
}

// Hands a std::vector's memory to NumPy without a copy.
template <typename T>
Array<T> take_vector(std::vector<T>&& values, std::vector<py::ssize_t> shape) {
    auto* owner = new std::vector<T>(std::move(values));
    py::capsule release(owner, [](void* p) { delete static_cast<std::vector<T>*>(p); });
    return Array<T>(std::move(shape), owner->data(), release);
}

class PythonMonitor final : public Monitor {
  public:
    explicit PythonMonitor(py::object progress) : progress_(std::move(progress)) {}

    void check() override {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw Interrupted();  // the Python error stays set
    }

    void progress(double fraction) override {
        if (progress_.is_none()) return;
        const py::gil_scoped_acquire acquire;
        try {
            progress_(fraction);
        } catch (py::error_already_set& error) {
            error.restore();
            throw Interrupted();
        }
    }

  private:
    py::object progress_;
};

// Runs body(Context) without the GIL.
template <typename Body>
auto run_kernel(int num_threads, const py::object& progress, Body&& body) {
    require(num_threads >= 0, "num_threads must be None or at least 1");
    PythonMonitor monitor(progress);
    const Context context{num_threads, &monitor};
    const py::gil_scoped_release release;
    return body(context);
}

}  // namespace cliquesim::bindings
