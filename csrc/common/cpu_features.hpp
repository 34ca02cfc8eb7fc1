// Which SIMD level this processor can run; used at import to pick the module.
#pragma once

#include <string>

namespace cliquesim {

// "baseline", "avx2" or "avx512".
std::string best_simd_level();

}  // namespace cliquesim
