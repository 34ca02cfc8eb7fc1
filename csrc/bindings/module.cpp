#include <pybind11/pybind11.h>

#include "bindings/stages.hpp"
#include "common/errors.hpp"

#define CLIQUESIM_EXPANDED_MODULE(name, variable) PYBIND11_MODULE(name, variable)

CLIQUESIM_EXPANDED_MODULE(CLIQUESIM_LEVEL, module) {
    using namespace cliquesim::bindings;
    pybind11::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const cliquesim::Interrupted&) {
            // PythonMonitor left KeyboardInterrupt (or the callback's error) set on this thread.
            if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
        }
    });
    register_common(module);
    register_hog(module);
    register_whitening(module);
    register_neighbors(module);
    register_linkage(module);
    register_cliques(module);
    register_batches(module);
    register_training(module);
    register_temporal(module);
}
