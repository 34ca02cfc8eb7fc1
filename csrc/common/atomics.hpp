// What many threads of a kernel may do to one number; on the host, plain arithmetic.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

// The number before the addition.
CLIQUESIM_HOST_DEVICE inline std::int32_t add_to(std::int32_t* number, std::int32_t value) {
#if defined(__CUDA_ARCH__)
    return atomicAdd(number, value);
#else
    const std::int32_t before = *number;
    *number += value;
    return before;
#endif
}

CLIQUESIM_HOST_DEVICE inline std::int32_t take_slot(std::int32_t* count) {
    return add_to(count, 1);
}

CLIQUESIM_HOST_DEVICE inline void lower_to(std::uint32_t* number, std::uint32_t value) {
#if defined(__CUDA_ARCH__)
    atomicMin(number, value);
#else
    if (value < *number) *number = value;
#endif
}

}  // namespace cliquesim
