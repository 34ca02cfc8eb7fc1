// The nearest items of every item, found in one pass over the distances above the diagonal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/thread_pool.hpp"
#include "linkage/distance_tiles.hpp"

namespace cliquesim {

template <typename V>
struct ListedItem {
    V distance;
    std::int32_t item;
};

// An item while lists are made: `step` leads from the list's row to the item, modulo n. Of equally
// near items the next ones in this order are listed. With the first ones of all instead, thousands
// of duplicates would list the same few, and be of no use to each other.
template <typename V>
struct Candidate {
    V distance;
    std::int32_t step;
    bool operator<(const Candidate& other) const {
        return distance != other.distance ? distance < other.distance : step < other.step;
    }
};

// Row i: `count[i]` items in any order, each at its exact distance. Every item that is not listed
// is at least bound[i] away; bound is infinite where all others are listed.
template <typename V>
struct NearestLists {
    std::int64_t capacity = 0;
    std::vector<ListedItem<V>> items;  // (n, capacity)
    std::vector<std::int32_t> count;
    std::vector<V> bound;
};

// Collects, for every row, the items up to the row's limit; of rows with `room` or more of them,
// the `keep` smallest (distance, step). The result does not depend on the order in which they come.
template <typename V>
class NearestTable {
  public:
    NearestTable(const std::vector<V>& limits, std::int64_t keep, std::int64_t room)
        : keep_(keep),
          room_(room),
          candidates_(limits.size() * static_cast<std::size_t>(room)),
          count_(limits.size(), 0),
          full_(limits.size(), 0),
          last_(limits.size()) {
        for (std::size_t r = 0; r < limits.size(); ++r)
            last_[r] = {limits[r], std::numeric_limits<std::int32_t>::max()};
    }

    // What is not smaller cannot enter the row's list any more.
    Candidate<V> last(std::int64_t row) const { return last_[static_cast<std::size_t>(row)]; }

    void push(std::int64_t row, Candidate<V> entry) {
        const auto r = static_cast<std::size_t>(row);
        if (!(entry < last_[r])) return;
        candidates_[r * static_cast<std::size_t>(room_) + static_cast<std::size_t>(count_[r]++)] =
            entry;
        if (count_[r] < room_) return;
        full_[r] = 1;
        shrink(row);
    }

    NearestLists<V> finish(ThreadPool& pool);

  private:
    void shrink(std::int64_t row) {
        const auto r = static_cast<std::size_t>(row);
        Candidate<V>* row_begin = candidates_.data() + row * room_;
        std::nth_element(row_begin, row_begin + keep_ - 1, row_begin + count_[r]);
        count_[r] = static_cast<std::int32_t>(keep_);
        last_[r] = row_begin[keep_ - 1];
    }

    std::int64_t keep_, room_;
    std::vector<Candidate<V>> candidates_;
    std::vector<std::int32_t> count_;
    std::vector<std::uint8_t> full_;  // has had `room` items
    std::vector<Candidate<V>> last_;
};

// About `keep` to 2 `keep` items a row. Throws BadDistance for NaN and negative infinity.
template <typename S>
NearestLists<ValueOf<S>> nearest_lists(DistanceTiles<S>& tiles, std::int64_t keep, ThreadPool& pool,
                                       double progress_from = 0, double progress_to = 0);

}  // namespace cliquesim
