#include "common/freed_memory.hpp"

#include <limits>

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

namespace cliquesim {

bool keep_freed_memory(bool keep) {
#if defined(__GLIBC__)
    // The largest threshold that glibc takes, and that it comes to by itself.
    constexpr int largest_block = 32 << 20;
    const int free_at_the_top = keep ? std::numeric_limits<int>::max() : 2 * largest_block;
    const bool taken = mallopt(M_MMAP_THRESHOLD, largest_block) == 1 &&
                       mallopt(M_TRIM_THRESHOLD, free_at_the_top) == 1;
    if (!keep) malloc_trim(0);
    return taken;
#else
    static_cast<void>(keep);
    return false;
#endif
}

}  // namespace cliquesim
