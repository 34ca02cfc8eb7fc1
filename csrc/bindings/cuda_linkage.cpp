#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <string>

#include "bindings/arrays.hpp"
#include "bindings/cuda_stages.hpp"
#include "linkage/linkage_cuda.hpp"

namespace cliquesim::bindings {

namespace {

// Asks Python for Ctrl-C and tells the progress, not after every round.
class Report {
  public:
    explicit Report(const py::object& progress) : monitor_(progress) {}

    void operator()(double fraction) {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(50)) return;
        last_ = now;
        monitor_.check();
        monitor_.progress(fraction);
    }

  private:
    PythonMonitor monitor_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

template <typename T>
std::vector<Merge> merges_of(const cuda::SquareInput& input, int device, std::uintptr_t stream,
                             const py::object& progress) {
    Report report(progress);
    const py::gil_scoped_release release;
    return cuda::linkage_of_square<T>(input, device, stream,
                                      [&](double fraction) { report(fraction); });
}

bool is_double(const std::string& dtype) {
    require(dtype == "float32" || dtype == "float64", "dtype must be float32 or float64");
    return dtype == "float64";
}

std::int64_t workspace(std::int64_t n, const std::string& dtype) {
    return is_double(dtype) ? cuda::linkage_workspace<double>(n)
                            : cuda::linkage_workspace<float>(n);
}

Array<double> linkage(std::uintptr_t distances, std::int64_t n, std::int64_t stride,
                      const std::string& dtype, std::uintptr_t workspace, int device,
                      std::uintptr_t stream, const py::object& progress) {
    const cuda::SquareInput input{distances, n, stride, workspace};
    auto merges = is_double(dtype) ? merges_of<double>(input, device, stream, progress)
                                   : merges_of<float>(input, device, stream, progress);
    Array<double> dendrogram({n - 1, std::int64_t{4}});
    label_dendrogram(std::move(merges), mutable_matrix_view(dendrogram));
    return dendrogram;
}

}  // namespace

void register_cuda_linkage(py::module_& module) {
    module.def("linkage_workspace", &workspace, py::arg("n"), py::arg("dtype"));
    module.def("linkage", &linkage, py::arg("distances"), py::arg("n"), py::arg("stride"),
               py::arg("dtype"), py::arg("workspace"), py::arg("device"), py::arg("stream"),
               py::arg("progress"));
}

}  // namespace cliquesim::bindings
