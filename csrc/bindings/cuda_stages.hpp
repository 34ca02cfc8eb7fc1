// Parts of the module _cuda; cuda_module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace cliquesim::bindings {

void register_cuda_batches(pybind11::module_& module);
void register_cuda_hog(pybind11::module_& module);
void register_cuda_linkage(pybind11::module_& module);
void register_cuda_neighbors(pybind11::module_& module);
void register_cuda_training(pybind11::module_& module);

}  // namespace cliquesim::bindings
