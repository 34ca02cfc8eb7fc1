// The frames that temporal pooling needs of any list of frames.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "temporal/sequences.hpp"

namespace cliquesim {

struct WindowPlan {
    std::vector<std::int64_t> order;      // the requests in ascending order of their frames
    std::vector<std::int64_t> frames;     // every frame of every window, once, ascending
    std::vector<std::int64_t> positions;  // per request (not reordered): its place in `frames`
};

// The window of a request is a contiguous piece of `frames`, so s_(k+n)(l+n) lies n steps down the
// diagonal of the similarities of `frames`. O(requests (log requests + 2p + 1)).
WindowPlan plan_windows(std::span<const std::int64_t> requests, const SequenceReach& reach,
                        const char* name);

}  // namespace cliquesim
