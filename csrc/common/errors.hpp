// Exceptions of the kernels. std::invalid_argument (bad input) becomes Python's ValueError,
// std::bad_alloc MemoryError; bindings/module.cpp translates the rest once.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace cliquesim {

// The caller asked to stop (Ctrl-C, or a progress callback that raised).
class Interrupted : public std::exception {
  public:
    const char* what() const noexcept override { return "interrupted"; }
};

// A distance that cannot be: NaN or negative infinity. The caller names its place in the input.
class BadDistance : public std::invalid_argument {
  public:
    BadDistance(std::int64_t i, std::int64_t j, double value)
        : std::invalid_argument("the distance of observations " + std::to_string(i) + " and " +
                                std::to_string(j) + " is " + std::to_string(value)),
          row(i),
          column(j),
          distance(value) {}

    std::int64_t row, column;
    double distance;
};

// Throws std::invalid_argument unless `condition` holds.
inline void require(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

}  // namespace cliquesim
