#include "temporal/windows.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "common/errors.hpp"

namespace cliquesim {

WindowPlan plan_windows(std::span<const std::int64_t> requests, const SequenceReach& reach,
                        const char* name) {
    const auto n = static_cast<std::int64_t>(reach.before.size());
    for (std::size_t i = 0; i < requests.size(); ++i)
        if (requests[i] < 0 || requests[i] >= n)
            throw std::invalid_argument(std::string(name) + " must be in [0, " + std::to_string(n) +
                                        "), got " + std::to_string(requests[i]) + " at place " +
                                        std::to_string(i));
    WindowPlan plan;
    plan.order.resize(requests.size());
    plan.positions.resize(requests.size());
    std::iota(plan.order.begin(), plan.order.end(), std::int64_t{0});
    const auto frame = [&](std::int64_t request) {
        return requests[static_cast<std::size_t>(request)];
    };
    std::stable_sort(plan.order.begin(), plan.order.end(),
                     [&](std::int64_t a, std::int64_t b) { return frame(a) < frame(b); });
    for (const std::int64_t request : plan.order) {
        // Windows begin and end in the order of their centres, so a window that overlaps what is
        // there already only adds to its end.
        const std::int64_t last = frame(request) + reach[frame(request)].after;
        std::int64_t next = frame(request) - reach[frame(request)].before;
        if (!plan.frames.empty()) next = std::max(next, plan.frames.back() + 1);
        for (; next <= last; ++next) plan.frames.push_back(next);
        plan.positions[static_cast<std::size_t>(request)] =
            static_cast<std::int64_t>(plan.frames.size()) - 1 - (last - frame(request));
    }
    return plan;
}

}  // namespace cliquesim
