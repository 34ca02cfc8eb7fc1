// How often this program has allocated memory so far; on Linux, where the linker can tell.
#pragma once

#include <cstdint>

std::int64_t allocations();
