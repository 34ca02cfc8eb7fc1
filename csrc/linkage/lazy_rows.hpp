// A symmetric distance matrix under merging, in which every row is kept up to date on its own.
//
// Merging clusters a and b of complete linkage means: row a becomes max(row a, row b), and in every
// other row entry a becomes max(entry a, entry b). The second part is only written to a log, and a
// row replays the log when somebody reads it. So all accesses stay within a row, no column is ever
// written, and rows can be brought up to date in parallel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/matrix.hpp"
#include "common/thread_pool.hpp"
#include "linkage/linkage.hpp"

namespace cliquesim {

template <typename T>
struct Nearest {
    std::int32_t cluster;
    T distance;
};

template <typename T>
class LazyRows {
  public:
    explicit LazyRows(MatrixView<T> distances)
        : matrix_(distances),
          width_(static_cast<std::int32_t>(distances.rows)),
          alive_count_(width_),
          row_of_(static_cast<std::size_t>(width_)),
          version_(static_cast<std::size_t>(width_), 0),
          alive_(static_cast<std::size_t>(width_), 1) {
        for (std::int32_t c = 0; c < width_; ++c) {
            row_of_[index(c)] = c;
            matrix_(c, c) = never;  // a cluster is not its own neighbour
        }
    }

    // Clusters are columns 0 .. width() - 1; those that were merged away are not alive.
    std::int32_t width() const { return width_; }
    std::int32_t alive_count() const { return alive_count_; }
    bool alive(std::int32_t c) const { return alive_[index(c)] != 0; }
    std::int64_t leaf(std::int32_t c) const { return row_of_[index(c)]; }

    // Distance of clusters c and other, of the row as it was last refreshed.
    T distance(std::int32_t c, std::int32_t other) const { return row(c)[other]; }

    void refresh(std::int32_t c) {
        T* values = row(c);
        for (std::size_t entry = version_[index(c)]; entry < log_.size(); ++entry) {
            const auto [a, b] = log_[entry];
            values[a] = std::max(values[a], values[b]);
            values[b] = never;
        }
        version_[index(c)] = log_.size();
    }

    // Nearest cluster of c, the smallest index among equals. The row must be fresh.
    Nearest<T> nearest(std::int32_t c) const;

    // First half of a merge: row a becomes that of the merged cluster. Disjoint pairs may run in
    // parallel; `record` follows serially, a < b.
    void merge_rows(std::int32_t a, std::int32_t b) {
        refresh(a);
        refresh(b);
        T* into = row(a);
        const T* from = row(b);
        for (std::int32_t j = 0; j < width_; ++j) into[j] = into[j] < from[j] ? from[j] : into[j];
    }

    void record(std::int32_t a, std::int32_t b) {
        log_.emplace_back(a, b);
        alive_[index(b)] = 0;
        --alive_count_;
    }

    // Drops dead columns, in order. Returns the new index of every old column (dead: -1).
    std::vector<std::int32_t> compact(ThreadPool& pool);

  private:
    static constexpr T never = std::numeric_limits<T>::infinity();
    static std::size_t index(std::int32_t c) { return static_cast<std::size_t>(c); }
    T* row(std::int32_t c) const { return matrix_.row(row_of_[index(c)]); }

    MatrixView<T> matrix_;
    std::int32_t width_;
    std::int32_t alive_count_;
    std::vector<std::int64_t> row_of_;  // the matrix row, which is also a leaf of the cluster
    std::vector<std::size_t> version_;  // entries of the log that the row has replayed
    std::vector<std::uint8_t> alive_;
    std::vector<std::pair<std::int32_t, std::int32_t>> log_;
};

template <typename T>
Nearest<T> LazyRows<T>::nearest(std::int32_t c) const {
    constexpr std::int32_t lanes = 64 / sizeof(T), block = 16 * lanes;
    const T* values = row(c);
    T best = never;
    std::int32_t where = 0;
    for (std::int32_t start = 0; start < width_; start += block) {
        const std::int32_t end = std::min(start + block, width_);
        T lane[lanes];
        std::fill(lane, lane + lanes, never);
        std::int32_t j = start;
        for (; j + lanes <= end; j += lanes)
            for (std::int32_t l = 0; l < lanes; ++l)
                lane[l] = values[j + l] < lane[l] ? values[j + l] : lane[l];
        T smallest = *std::min_element(lane, lane + lanes);
        for (; j < end; ++j) smallest = std::min(smallest, values[j]);
        if (smallest < best) {
            best = smallest;
            where = start;
        }
    }
    if (best < never) {
        while (values[where] != best) ++where;
        return {where, best};
    }
    for (where = 0; where == c || !alive(where);) ++where;
    return {where, never};
}

template <typename T>
std::vector<std::int32_t> LazyRows<T>::compact(ThreadPool& pool) {
    std::vector<std::int32_t> kept, renamed(index(width_), -1);
    kept.reserve(index(alive_count_));
    for (std::int32_t c = 0; c < width_; ++c) {
        if (!alive(c)) continue;
        renamed[index(c)] = static_cast<std::int32_t>(kept.size());
        kept.push_back(c);
    }
    pool.parallel_for(
        alive_count_,
        [&](std::int64_t i, int) {
            const std::int32_t c = kept[static_cast<std::size_t>(i)];
            refresh(c);
            T* values = row(c);
            for (std::size_t j = 0; j < kept.size(); ++j) values[j] = values[kept[j]];
        },
        16);
    for (std::size_t i = 0; i < kept.size(); ++i) row_of_[i] = row_of_[index(kept[i])];
    row_of_.resize(kept.size());
    version_.assign(kept.size(), 0);
    alive_.assign(kept.size(), 1);
    log_.clear();
    width_ = alive_count_;
    return renamed;
}

}  // namespace cliquesim
