#include "linkage/nearest_lists.hpp"

#include <bit>
#include <mutex>

#include "common/errors.hpp"
#include "common/lanes.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

// Copies of the rows' last candidates: an old copy lets more pass, never fewer.
template <typename V>
struct Limits {
    std::vector<V> distance;
    std::vector<std::int32_t> step;

    void resize(std::int64_t size) {
        distance.resize(index(size));
        step.resize(index(size));
    }
};

template <typename V>
struct Hit {
    std::int32_t row;
    Candidate<V> candidate;
};

template <typename V>
struct Workspace {
    Limits<V> rows, cols;
    std::vector<std::int32_t> col_band;  // counted from the stretch's first
    std::vector<Hit<V>> row_hits;
    std::vector<std::vector<Hit<V>>> col_hits;  // by band
};

template <typename S>
class Scan {
    using V = ValueOf<S>;

  public:
    Scan(DistanceTiles<S>& tiles, std::int64_t keep, ThreadPool& pool)
        : tiles_(tiles),
          n_(tiles.size()),
          pool_(pool),
          table_(tiles.estimate_limits(pool), keep, 2 * keep),
          locks_(index(tiles.num_bands())),
          workspaces_(index(pool.size())) {}

    NearestLists<V> run(double progress_from, double progress_to) {
        for_each_tile(tiles_, pool_, progress_from, progress_to,
                      [&](std::int64_t band, std::int64_t first, std::int64_t last, int worker) {
                          scan_tile(band, first, last, tiles_.tile(band, first, last, worker),
                                    workspaces_[index(worker)]);
                      });
        return table_.finish(pool_);
    }

  private:
    std::int64_t begin_of(std::int64_t band) const { return tiles_.bands()[index(band)]; }

    void copy_limits(std::int64_t first, std::int64_t last, Limits<V>& limits) {
        const std::int64_t begin = begin_of(first);
        limits.resize(begin_of(last) - begin);
        for (std::int64_t band = first; band < last; ++band) {
            const std::lock_guard lock(locks_[index(band)]);
            for (std::int64_t i = begin_of(band); i < begin_of(band + 1); ++i) {
                const Candidate<V> known = table_.last(i);
                limits.distance[index(i - begin)] = known.distance;
                limits.step[index(i - begin)] = known.step;
            }
        }
    }

    void take(std::int64_t band, std::vector<Hit<V>>& hits) {
        if (hits.empty()) return;
        const std::lock_guard lock(locks_[index(band)]);
        for (const Hit<V>& hit : hits) table_.push(hit.row, hit.candidate);
        hits.clear();
    }

    void scan_tile(std::int64_t band, std::int64_t first, std::int64_t last,
                   const UpperRows<const S>& tile, Workspace<V>& space) {
        copy_limits(band, band + 1, space.rows);
        copy_limits(first, last, space.cols);
        space.col_band.clear();
        for (std::int64_t b = first; b < last; ++b)
            space.col_band.resize(index(begin_of(b + 1) - begin_of(first)),
                                  static_cast<std::int32_t>(b - first));
        space.col_hits.resize(std::max(space.col_hits.size(), index(last - first)));
        const std::int64_t begin = begin_of(band);
        for (std::int64_t i = begin; i < begin_of(band + 1); ++i)
            scan_row(i, tile.row(i),
                     {space.rows.distance[index(i - begin)], space.rows.step[index(i - begin)]},
                     begin_of(first), begin_of(last), space);
        take(band, space.row_hits);
        for (std::int64_t b = first; b < last; ++b) take(b, space.col_hits[index(b - first)]);
    }

    void scan_row(std::int64_t i, const S* values, Candidate<V> last, std::int64_t col_begin,
                  std::int64_t col_end, Workspace<V>& space) {
        std::int64_t j = std::max(i + 1, col_begin);
        for (; j + lanes <= col_end; j += lanes) {
            const V* limits = space.cols.distance.data() + (j - col_begin);
            std::uint32_t mask = not_above(values + j, limits, last.distance);
            for (; mask != 0; mask &= mask - 1)
                collect(i, j + std::countr_zero(mask), values, last, col_begin, space);
        }
        for (; j < col_end; ++j) collect(i, j, values, last, col_begin, space);
    }

    void collect(std::int64_t i, std::int64_t j, const S* values, Candidate<V> last,
                 std::int64_t col_begin, Workspace<V>& space) {
        const V d = static_cast<V>(values[j]);
        if (!(d > -std::numeric_limits<V>::infinity()))
            throw BadDistance(i, j, static_cast<double>(d));
        const Candidate<V> for_row{d, static_cast<std::int32_t>(j - i)};
        const Candidate<V> for_col{d, static_cast<std::int32_t>(n_ - (j - i))};
        const std::size_t c = index(j - col_begin);
        if (for_row < last) space.row_hits.push_back({static_cast<std::int32_t>(i), for_row});
        if (for_col < Candidate<V>{space.cols.distance[c], space.cols.step[c]})
            space.col_hits[index(space.col_band[c])].push_back(
                {static_cast<std::int32_t>(j), for_col});
    }

    DistanceTiles<S>& tiles_;
    std::int64_t n_;
    ThreadPool& pool_;
    NearestTable<V> table_;
    std::vector<std::mutex> locks_;  // of the rows of a band
    std::vector<Workspace<V>> workspaces_;
};

}  // namespace

template <typename V>
NearestLists<V> NearestTable<V>::finish(ThreadPool& pool) {
    NearestLists<V> lists;
    const auto rows = static_cast<std::int64_t>(count_.size());
    lists.capacity = room_;
    lists.items.resize(candidates_.size());
    lists.bound.resize(count_.size());
    pool.parallel_for(
        rows,
        [&](std::int64_t row, int) {
            const std::size_t r = index(row);
            if (full_[r]) shrink(row);
            for (std::int64_t e = row * room_; e < row * room_ + count_[r]; ++e) {
                const Candidate<V>& one = candidates_[index(e)];
                const std::int64_t item = (row + one.step) % rows;
                lists.items[index(e)] = {one.distance, static_cast<std::int32_t>(item)};
            }
            lists.bound[r] = last_[r].distance;
        },
        1024);
    lists.count = std::move(count_);
    return lists;
}

template <typename S>
NearestLists<ValueOf<S>> nearest_lists(DistanceTiles<S>& tiles, std::int64_t keep, ThreadPool& pool,
                                       double progress_from, double progress_to) {
    return Scan<S>(tiles, keep, pool).run(progress_from, progress_to);
}

#define CLIQUESIM_INSTANTIATE(S)                                                        \
    template NearestLists<ValueOf<S>> nearest_lists<S>(DistanceTiles<S>&, std::int64_t, \
                                                       ThreadPool&, double, double);
CLIQUESIM_INSTANTIATE(float)
CLIQUESIM_INSTANTIATE(double)
CLIQUESIM_INSTANTIATE(std::uint16_t)
#undef CLIQUESIM_INSTANTIATE
template class NearestTable<float>;
template class NearestTable<double>;

}  // namespace cliquesim
