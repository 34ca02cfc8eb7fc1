// Marks functions that CUDA kernels share with host code.
#pragma once

#if defined(__CUDACC__)
#define CLIQUESIM_HOST_DEVICE __host__ __device__
#else
#define CLIQUESIM_HOST_DEVICE
#endif
