// Whether the CUDA runtime finds a device.
#pragma once

#include <string>

namespace cliquesim::cuda {

struct DeviceStatus {
    int count;
    std::string problem;  // empty if there is a device
};

DeviceStatus device_status();

}  // namespace cliquesim::cuda
