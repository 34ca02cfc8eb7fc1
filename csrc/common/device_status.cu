#include <cuda_runtime_api.h>

#include "common/device_status.hpp"

namespace cliquesim::cuda {

DeviceStatus device_status() {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        cudaGetLastError();
        return {0, "no CUDA driver is installed"};
    }
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
        cudaGetLastError();  // an old driver is an answer, not an error to keep
        return {0, std::string("no usable CUDA device: ") + cudaGetErrorString(status)};
    }
    return {count, count > 0 ? "" : "no CUDA device is present"};
}

}  // namespace cliquesim::cuda
