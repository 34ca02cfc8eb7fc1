// SplitMix64: the same numbers on every platform, for any number of threads, and on a GPU.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

class SplitMix64 {
  public:
    CLIQUESIM_HOST_DEVICE explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
    CLIQUESIM_HOST_DEVICE std::int64_t below(std::int64_t bound) {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return static_cast<std::int64_t>((z ^ (z >> 31)) % static_cast<std::uint64_t>(bound));
    }

  private:
    std::uint64_t state_;
};

}  // namespace cliquesim
