// Exceptions of the kernels. std::invalid_argument (bad input) becomes Python's ValueError,
// std::bad_alloc MemoryError; bindings/module.cpp translates the rest once.
#pragma once

#include <stdexcept>
#include <string>

namespace cliquesim {

// The caller asked to stop (Ctrl-C, or a progress callback that raised).
class Interrupted : public std::exception {
  public:
    const char* what() const noexcept override { return "interrupted"; }
};

// Throws std::invalid_argument unless `condition` holds.
inline void require(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

}  // namespace cliquesim
