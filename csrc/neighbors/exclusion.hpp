// Which pairs are never neighbours.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "neighbors/neighbors.hpp"

namespace cliquesim {

class Exclusion {
  public:
    explicit Exclusion(const NeighborSearch& search)
        : symmetric_(search.queries.data == nullptr),
          row_groups_(symmetric_ ? search.groups : search.query_groups),
          col_groups_(search.groups),
          window_(search.group_window) {}

    bool operator()(std::int64_t row, std::int64_t col) const {
        if (symmetric_ && row == col) return true;
        if (row_groups_.empty() || col_groups_.empty()) return false;
        if (row_groups_[static_cast<std::size_t>(row)] !=
            col_groups_[static_cast<std::size_t>(col)])
            return false;
        return window_ < 0 || std::abs(row - col) <= window_;
    }

  private:
    bool symmetric_;
    std::span<const std::int64_t> row_groups_, col_groups_;
    std::int64_t window_;
};

}  // namespace cliquesim
