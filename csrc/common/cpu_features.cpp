#include "common/cpu_features.hpp"

namespace cliquesim {

std::string best_simd_level() {
#if defined(__x86_64__)
    // The levels are x86-64-v3 and x86-64-v4; the operating system's support is part of the test.
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v4) return "avx512";
    if (v3) return "avx2";
#endif
    return "baseline";
}

}  // namespace cliquesim
