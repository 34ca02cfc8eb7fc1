// Which pairs are never neighbours. Shared by the CPU and the CUDA kernels.
#pragma once

#include <cstdint>

#include "common/host_device.hpp"

namespace cliquesim {

struct Exclusion {
    bool symmetric;                  // rows and columns are the same rows
    const std::int64_t* row_groups;  // null: none
    const std::int64_t* col_groups;
    std::int64_t window;  // of the same group: at most this far apart; < 0: however far

    CLIQUESIM_HOST_DEVICE bool operator()(std::int64_t row, std::int64_t col) const {
        if (symmetric && row == col) return true;
        if (row_groups == nullptr || col_groups == nullptr) return false;
        if (row_groups[row] != col_groups[col]) return false;
        return window < 0 || (row < col ? col - row : row - col) <= window;
    }
};

}  // namespace cliquesim
