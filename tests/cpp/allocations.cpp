#include "allocations.hpp"

#ifdef __linux__

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::int64_t> count{0};
}

std::int64_t allocations() {
    return count;
}

// The linker's --wrap sends every such call in this program's own objects here: operator new by its
// mangled names.
extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t number, std::size_t size);
void* __real_realloc(void* old, std::size_t size);
void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
int __real_posix_memalign(void** out, std::size_t alignment, std::size_t size);
void* __real__Znwm(std::size_t size);
void* __real__Znam(std::size_t size);
void* __real__ZnwmSt11align_val_t(std::size_t size, std::align_val_t alignment);

void* __wrap_malloc(std::size_t size) {
    ++count;
    return __real_malloc(size);
}
void* __wrap_calloc(std::size_t number, std::size_t size) {
    ++count;
    return __real_calloc(number, size);
}
void* __wrap_realloc(void* old, std::size_t size) {
    ++count;
    return __real_realloc(old, size);
}
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
    ++count;
    return __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void** out, std::size_t alignment, std::size_t size) {
    ++count;
    return __real_posix_memalign(out, alignment, size);
}
void* __wrap__Znwm(std::size_t size) {
    ++count;
    return __real__Znwm(size);
}
void* __wrap__Znam(std::size_t size) {
    ++count;
    return __real__Znam(size);
}
void* __wrap__ZnwmSt11align_val_t(std::size_t size, std::align_val_t alignment) {
    ++count;
    return __real__ZnwmSt11align_val_t(size, alignment);
}
}

#endif
