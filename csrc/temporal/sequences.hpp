// Where sequences begin and end.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "temporal/pooling.hpp"

namespace cliquesim {

struct SequenceReach {
    std::vector<std::int32_t> before;  // per row: Reach, as two arrays
    std::vector<std::int32_t> after;

    Reach operator[](std::int64_t row) const {
        return {before[static_cast<std::size_t>(row)], after[static_cast<std::size_t>(row)]};
    }
    // Largest reach of any row, at most the radius.
    std::int64_t radius() const;
};

// `sequence` labels every row. Throws when the rows of a sequence are not contiguous.
SequenceReach sequence_reach(std::span<const std::int64_t> sequence, std::int64_t radius,
                             const char* name);

}  // namespace cliquesim
