#include "common/lanes.hpp"
#include "linkage/distance_tiles.hpp"
#include "linkage/smallest.hpp"

namespace cliquesim {

namespace {
// Long stretches for the sake of memory, low bands for that of the caches.
constexpr std::int64_t band = 64, bands_per_stretch = 16, stretch = band * bands_per_stretch;
}  // namespace

template <typename S>
StoredTiles<S>::StoredTiles(const UpperRows<const S>& rows) : rows_(rows) {
    for (std::int64_t begin = 0; begin < rows.size(); begin += band) this->bands_.push_back(begin);
    this->bands_.push_back(rows.size());
    this->bands_per_stretch_ = bands_per_stretch;
}

// From a sixteenth of the distances, spread evenly: every 16th row above the diagonal, and of the
// row itself every 16th group of 16.
template <typename S>
std::vector<ValueOf<S>> StoredTiles<S>::estimate_limits(ThreadPool& pool) {
    using V = ValueOf<S>;
    constexpr std::int64_t share = 16;
    const std::int64_t n = rows_.size();
    std::vector<V> limits(static_cast<std::size_t>(n), std::numeric_limits<V>::infinity());
    if (n < 4 * share * SmallestValues<V>::rank) return limits;
    pool.parallel_for((n + stretch - 1) / stretch, [&](std::int64_t s, int) {
        const std::int64_t begin = s * stretch, end = std::min(n, begin + stretch);
        SmallestValues<V> above(stretch);
        for (std::int64_t i = 0; i < end; i += share) {
            const std::int64_t first = std::max(begin, i + 1);
            if (first < end) above.add(rows_.row(i) + first, first - begin, end - first);
        }
        for (std::int64_t i = begin; i < end; ++i) {
            SmallestValues<V> sample(lanes);
            for (std::int64_t j = i + 1 + lanes * (i % share); j + lanes <= n; j += lanes * share)
                sample.add(rows_.row(i) + j, 0, lanes);
            for (int place = 0; place < SmallestValues<V>::rank; ++place) {
                const V value = above.value(place, i - begin);
                sample.add(&value, place, 1);
            }
            limits[static_cast<std::size_t>(i)] = sample.last_of_all();
        }
    });
    return limits;
}

template class StoredTiles<float>;
template class StoredTiles<double>;
template class StoredTiles<std::uint16_t>;

}  // namespace cliquesim
