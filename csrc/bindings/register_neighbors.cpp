#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"

namespace cliquesim::bindings {

void register_neighbors(py::module_& module) {
    static_cast<void>(module);
}

}  // namespace cliquesim::bindings
