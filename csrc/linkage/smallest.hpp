// The few smallest values of every column, in sorting networks that vectorise over the columns.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace cliquesim {

template <typename V>
class SmallestValues {
  public:
    static constexpr int rank = 4;

    explicit SmallestValues(std::int64_t columns) {
        for (auto& values : smallest_)
            values.assign(static_cast<std::size_t>(columns), std::numeric_limits<V>::infinity());
    }

    // values[0 .. count) belong to columns first, first + 1, ... NaN is passed over.
    template <typename S>
    void add(const S* values, std::int64_t first, std::int64_t count) {
        V* s0 = smallest_[0].data() + first;
        V* s1 = smallest_[1].data() + first;
        V* s2 = smallest_[2].data() + first;
        V* s3 = smallest_[3].data() + first;
        for (std::int64_t j = 0; j < count; ++j) {
            V d = static_cast<V>(values[j]);
            d = exchange(s0[j], d);
            d = exchange(s1[j], d);
            d = exchange(s2[j], d);
            exchange(s3[j], d);
        }
    }

    V value(int place, std::int64_t column) const {
        return smallest_[static_cast<std::size_t>(place)][static_cast<std::size_t>(column)];
    }
    V last(std::int64_t column) const { return value(rank - 1, column); }
    // The rank-th smallest of all columns' values together.
    V last_of_all() const {
        std::vector<V> all;
        for (const auto& values : smallest_) all.insert(all.end(), values.begin(), values.end());
        std::nth_element(all.begin(), all.begin() + rank - 1, all.end());
        return all[rank - 1];
    }

  private:
    // Keeps the smaller in `kept`, and hands on the other.
    static V exchange(V& kept, V d) {
        const V before = kept;
        kept = d < before ? d : before;
        return d < before ? before : d;
    }

    std::array<std::vector<V>, rank> smallest_;
};

}  // namespace cliquesim
