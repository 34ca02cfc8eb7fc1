#include "temporal/sequences.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>

#include "common/errors.hpp"

namespace cliquesim {

std::int64_t SequenceReach::radius() const {
    // The first row of the longest sequence reaches as far forward as any row reaches back.
    return after.empty() ? 0 : *std::max_element(after.begin(), after.end());
}

SequenceReach sequence_reach(std::span<const std::int64_t> sequence, std::int64_t radius,
                             const char* name) {
    require(radius >= 0, "the pooling radius must be at least 0");
    const std::int64_t cap =
        std::min<std::int64_t>(radius, std::numeric_limits<std::int32_t>::max());
    const std::size_t n = sequence.size();
    SequenceReach reach{std::vector<std::int32_t>(n), std::vector<std::int32_t>(n)};
    std::unordered_map<std::int64_t, std::size_t> last_row;
    for (std::size_t begin = 0, end; begin < n; begin = end) {
        end = begin + 1;
        while (end < n && sequence[end] == sequence[begin]) ++end;
        const auto [seen, is_new] = last_row.try_emplace(sequence[begin], end - 1);
        if (!is_new)
            throw std::invalid_argument(
                std::string(name) + ": the rows of sequence " + std::to_string(sequence[begin]) +
                " must be contiguous and in time order for temporal pooling, but row " +
                std::to_string(begin) + " returns to it after row " + std::to_string(seen->second));
        for (std::size_t row = begin; row < end; ++row) {
            reach.before[row] = static_cast<std::int32_t>(
                std::min<std::int64_t>(cap, static_cast<std::int64_t>(row - begin)));
            reach.after[row] = static_cast<std::int32_t>(
                std::min<std::int64_t>(cap, static_cast<std::int64_t>(end - 1 - row)));
        }
    }
    return reach;
}

}  // namespace cliquesim
