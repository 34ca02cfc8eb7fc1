// One register function per stage, in the order of the method.
#pragma once

#include <pybind11/pybind11.h>

namespace cliquesim::bindings {

void register_common(pybind11::module_& module);
void register_hog(pybind11::module_& module);
void register_whitening(pybind11::module_& module);
void register_neighbors(pybind11::module_& module);
void register_linkage(pybind11::module_& module);
void register_cliques(pybind11::module_& module);
void register_batches(pybind11::module_& module);
void register_training(pybind11::module_& module);
void register_temporal(pybind11::module_& module);

}  // namespace cliquesim::bindings
