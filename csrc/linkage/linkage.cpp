#include "linkage/linkage.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>

#include "common/errors.hpp"
#include "linkage/contraction.hpp"
#include "linkage/list_linkage.hpp"
#include "linkage/nearest_lists.hpp"
#include "linkage/resident.hpp"
#include "linkage/upper_chain.hpp"
#include "linkage/vector_tiles.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

std::int64_t pairs(std::int64_t n) {
    return n * (n - 1) / 2;
}

// Lists did not help if more than this is left.
bool is_poor(std::int64_t clusters, std::int64_t items) {
    return clusters > items / 5 * 4;
}

template <typename V>
ListLinkage<V> list_linkage(NearestLists<V>&& lists, std::span<const std::int64_t> leaf) {
    std::vector<typename ListLinkage<V>::Entry> entries(lists.items.size());
    for (std::size_t e = 0; e < entries.size(); ++e)
        entries[e] = {lists.items[e].item, 1, lists.items[e].distance};
    std::vector<std::int64_t> offsets(lists.count.size());
    for (std::size_t i = 0; i < offsets.size(); ++i)
        offsets[i] = static_cast<std::int64_t>(i) * lists.capacity;
    return ListLinkage<V>(std::move(entries), std::move(offsets), std::move(lists.count),
                          std::move(lists.bound), leaf);
}

// One run: the merges so far, and the leaf that names every item of the present level.
class Levels {
  public:
    Levels(std::int64_t n, const Context& context, const LinkageTuning& tuning)
        : pool_(n > tuning.few ? context : Context{1, context.monitor}),
          tuning_(tuning),
          leaf_(index(n)) {
        require(n < std::numeric_limits<std::int32_t>::max() / 2, "too many observations");
        std::iota(leaf_.begin(), leaf_.end(), 0);
        merges_.reserve(index(n));
        report_.levels.push_back(n);
    }

    ThreadPool& pool() { return pool_; }
    std::int64_t few() const { return tuning_.few; }
    LinkageReport& report() { return report_; }

    // Merges what lists prove. Lookups of single distances let them prove a little more.
    template <typename S, typename Lookup>
    Grouping merge_by_lists(DistanceTiles<S>& tiles, const Lookup& lookup) {
        const bool first = report_.levels.size() == 1;
        auto linkage = list_linkage(
            nearest_lists(tiles, tuning_.listed, pool_, 0.0, first ? 0.5 : 0.0), leaf_);
        return merge_by_lists(linkage, lookup);
    }

    template <typename V, typename Lookup>
    Grouping merge_by_lists(ListLinkage<V>& linkage, const Lookup& lookup) {
        linkage.run(merges_, lookup, [&] { pool_.check(); });
        Grouping groups = linkage.grouping();
        std::vector<std::int64_t> leaf(index(groups.size()));
        for (std::int64_t c = 0; c < groups.size(); ++c)
            leaf[index(c)] = leaf_[index(groups[c].front())];
        leaf_ = std::move(leaf);
        report_.levels.push_back(groups.size());
        return groups;
    }

    // The whole hierarchy of distances that are only read, in `limit` bytes beside them.
    template <typename S>
    void run(const UpperRows<const S>& rows, std::int64_t limit) {
        using V = ValueOf<S>;
        if (rows.size() <= tuning_.few) return finish_on_square(rows);
        const Grouping groups = merge_stored(rows);
        const std::int64_t m = groups.size();
        if (m == 1) return;
        const auto size = static_cast<std::int64_t>(sizeof(V));
        const bool direct = is_poor(m, rows.size()) && m * m * size <= limit;
        require(direct || pairs(m) * size <= limit,
                "memory_limit is too small: the distances of " + std::to_string(m) +
                    " clusters take " + std::to_string(pairs(m) * size) +
                    " bytes; distances that may be overwritten need no more memory");
        const auto memory = std::make_unique_for_overwrite<V[]>(index(direct ? m * m : pairs(m)));
        const MatrixView<V> square(memory.get(), m, m);
        const UpperRows<V> clusters = direct ? UpperRows<V>(square) : UpperRows<V>(memory.get(), m);
        contract<S>(rows, groups, clusters, pool_);
        if (direct)
            finish(square);
        else
            run_overwriting(clusters);
    }

    // The whole hierarchy of distances that are destroyed.
    template <typename V>
    void run_overwriting(UpperRows<V> rows) {
        while (rows.size() > tuning_.few) {
            const Grouping groups = merge_stored(UpperRows<const V>(rows));
            const std::int64_t m = groups.size();
            const bool poor = is_poor(m, rows.size());
            if (m == 1) return;
            if (m == rows.size() && rows.is_square())
                return finish(MatrixView<V>(rows.data(), m, m));
            const UpperRows<V> clusters(rows.data(), m);
            if (m < rows.size() || rows.is_square()) contract<V>(rows, groups, clusters, pool_);
            rows = clusters;
            if (poor && m > tuning_.few) return add(chain_linkage(rows, pool_));
        }
        finish_on_square(UpperRows<const V>(rows));
    }

    template <typename V>
    void finish(MatrixView<V> square) {
        mirror_upper(square, pool_);
        add(complete_linkage(square, pool_, 0.9));
    }

    // What is left is joined at infinity, smallest leaves first.
    void join_at_infinity() {
        std::sort(leaf_.begin(), leaf_.end());
        for (std::size_t i = 1; i < leaf_.size(); ++i)
            merges_.push_back({leaf_[0], leaf_[i], std::numeric_limits<double>::infinity()});
    }

    // Heights become origin + scale * height.
    LinkageReport write(MatrixView<double> dendrogram, double origin = 0, double scale = 1) {
        for (Merge& merge : merges_) merge.height = origin + scale * merge.height;
        label_dendrogram(std::move(merges_), dendrogram);
        pool_.progress(1.0);
        return std::move(report_);
    }

  private:
    template <typename S>
    Grouping merge_stored(const UpperRows<const S>& rows) {
        using V = ValueOf<S>;
        StoredTiles<S> tiles(rows);
        return merge_by_lists(tiles, [&](std::int64_t i, std::int64_t j) {
            return std::optional<V>(static_cast<V>(rows.at(i, j)));
        });
    }

    template <typename S>
    void finish_on_square(const UpperRows<const S>& rows) {
        using V = ValueOf<S>;
        const std::int64_t n = rows.size();
        const auto memory = std::make_unique_for_overwrite<V[]>(index(n * n));
        const MatrixView<V> square(memory.get(), n, n);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j) {
                const V d = static_cast<V>(rows.row(i)[j]);
                if (!(d > -std::numeric_limits<V>::infinity()))
                    throw BadDistance(i, j, static_cast<double>(d));
                square(i, j) = d;
            }
        finish(square);
    }

    void add(const std::vector<Merge>& merges) {
        for (const Merge& merge : merges)
            merges_.push_back(
                {leaf_[index(merge.leaf_a)], leaf_[index(merge.leaf_b)], merge.height});
    }

    ThreadPool pool_;
    LinkageTuning tuning_;
    std::vector<std::int64_t> leaf_;
    std::vector<Merge> merges_;
    LinkageReport report_;
};

void check_size(std::int64_t n, MatrixView<double> dendrogram) {
    require(n >= 1, "there must be at least one observation");
    require(dendrogram.rows == n - 1 && dendrogram.cols == 4, "dendrogram must be (n-1, 4)");
}

// Writes every distance above the diagonal as convert(distance).
template <typename T, typename S, typename Convert>
void fill(DistanceTiles<T>& tiles, const UpperRows<S>& out, const Convert& convert,
          ThreadPool& pool, double progress_from, double progress_to) {
    const auto& bands = tiles.bands();
    for_each_tile(tiles, pool, progress_from, progress_to,
                  [&](std::int64_t band, std::int64_t first, std::int64_t last, int worker) {
                      const UpperRows<const T> tile = tiles.tile(band, first, last, worker);
                      for (std::int64_t i = bands[index(band)]; i < bands[index(band) + 1]; ++i) {
                          const T* from = tile.row(i);
                          S* into = out.row(i);
                          for (std::int64_t j = std::max(i + 1, bands[index(first)]);
                               j < bands[index(last)]; ++j)
                              into[j] = convert(from[j]);
                      }
                  });
}

template <typename T>
void run_stored(std::unique_ptr<VectorTiles<T>> tiles, Storage storage, Levels& levels) {
    const std::int64_t n = tiles->size();
    const auto same = [](T d) { return d; };
    const auto memory =
        std::make_unique_for_overwrite<T[]>(index(storage == Storage::square ? n * n : pairs(n)));
    const MatrixView<T> square(memory.get(), n, n);
    const UpperRows<T> rows =
        storage == Storage::square ? UpperRows<T>(square) : UpperRows<T>(memory.get(), n);
    fill(*tiles, rows, same, levels.pool(), 0.0, 0.5);
    tiles.reset();
    if (storage == Storage::square)
        levels.finish(square);
    else
        levels.run_overwriting(rows);
}

// Returns origin and step of the codes.
template <typename T>
std::pair<double, double> run_rounded(std::unique_ptr<VectorTiles<T>> tiles, std::int64_t limit,
                                      Levels& levels) {
    const auto [low, high] = tiles->range();
    const double step = std::max((static_cast<double>(high) - static_cast<double>(low)) / 65535,
                                 std::numeric_limits<double>::min());
    const auto encode = [low = static_cast<double>(low), step](T d) {
        const double code = std::round((static_cast<double>(d) - low) / step);
        return static_cast<std::uint16_t>(std::clamp(code, 0.0, 65535.0));
    };
    const std::int64_t n = tiles->size();
    const auto memory = std::make_unique_for_overwrite<std::uint16_t[]>(index(pairs(n)));
    fill(*tiles, UpperRows<std::uint16_t>(memory.get(), n), encode, levels.pool(), 0.0, 0.5);
    tiles.reset();
    levels.run(UpperRows<const std::uint16_t>(memory.get(), n), limit);
    levels.report().step = step;
    return {static_cast<double>(low), step};
}

template <typename T>
void run_on_the_fly(std::unique_ptr<VectorTiles<T>> tiles, std::int64_t limit, Levels& levels) {
    const auto no_lookup = [](std::int64_t, std::int64_t) { return std::optional<T>(); };
    while (tiles->size() > levels.few()) {
        const std::int64_t before = tiles->size();
        const Grouping groups = levels.merge_by_lists(*tiles, no_lookup);
        if (groups.size() == 1) return;
        tiles = std::make_unique<VectorTiles<T>>(std::move(*tiles), groups, levels.pool());
        const std::int64_t m = groups.size();
        if (pairs(m) * static_cast<std::int64_t>(sizeof(T)) <= limit) break;
        require(m < before, "memory_limit is too small for the distances of the " +
                                std::to_string(m) + " clusters that near neighbours lead to");
    }
    run_stored(std::move(tiles), Storage::triangle, levels);
}

}  // namespace

template <typename T>
LinkageReport linkage_overwriting(UpperRows<T> distances, bool negate,
                                  MatrixView<double> dendrogram, const Context& context,
                                  const LinkageTuning& tuning) {
    const std::int64_t n = distances.size();
    check_size(n, dendrogram);
    Levels levels(n, context, tuning);
    if (n > 1) {
        if (negate)
            levels.pool().parallel_for(n, [&](std::int64_t i, int) {
                for (std::int64_t j = i + 1; j < n; ++j) distances.row(i)[j] *= -1;
            });
        levels.run_overwriting(distances);
    }
    return levels.write(dendrogram);
}

template <typename T>
LinkageReport linkage_of_distances(UpperRows<const T> distances, bool negate, std::int64_t limit,
                                   MatrixView<double> dendrogram, const Context& context,
                                   const LinkageTuning& tuning) {
    const std::int64_t n = distances.size();
    check_size(n, dendrogram);
    if (negate && n > 1) {
        require(pairs(n) * static_cast<std::int64_t>(sizeof(T)) <= limit,
                "memory_limit is too small for a copy of the similarities; those that may be "
                "overwritten need none");
        const auto memory = std::make_unique_for_overwrite<T[]>(index(pairs(n)));
        const UpperRows<T> copy(memory.get(), n);
        ThreadPool(context).parallel_for(n, [&](std::int64_t i, int) {
            std::copy(distances.row(i) + i + 1, distances.row(i) + n, copy.row(i) + i + 1);
        });
        return linkage_overwriting(copy, true, dendrogram, context, tuning);
    }
    Levels levels(n, context, tuning);
    if (n > 1) levels.run(distances, limit);
    return levels.write(dendrogram);
}

template <typename T>
LinkageReport linkage_of_vectors(MatrixView<const T> vectors, Metric metric, Storage storage,
                                 std::int64_t limit, MatrixView<double> dendrogram,
                                 const Context& context, const LinkageTuning& tuning) {
    check_size(vectors.rows, dendrogram);
    Levels levels(vectors.rows, context, tuning);
    if (vectors.rows < 2) return levels.write(dendrogram);
    auto tiles = std::make_unique<VectorTiles<T>>(vectors, metric, levels.pool());
    if (storage == Storage::triangle16) {
        const auto [origin, step] = run_rounded(std::move(tiles), limit, levels);
        return levels.write(dendrogram, origin, step);
    }
    if (storage == Storage::none)
        run_on_the_fly(std::move(tiles), limit, levels);
    else
        run_stored(std::move(tiles), storage, levels);
    return levels.write(dendrogram);
}

template <typename T>
LinkageReport linkage_of_graph(std::span<const std::int64_t> offsets,
                               std::span<const std::int64_t> columns, std::span<const T> distances,
                               bool negate, MatrixView<double> dendrogram, const Context& context,
                               const LinkageTuning& tuning) {
    using Entry = typename ListLinkage<T>::Entry;
    const std::int64_t n = std::ssize(offsets) - 1;
    require(n >= 1 && offsets.front() == 0 && offsets.back() == std::ssize(columns) &&
                columns.size() == distances.size() &&
                std::is_sorted(offsets.begin(), offsets.end()),
            "y is no valid CSR matrix");
    check_size(n, dendrogram);
    Levels levels(n, context, tuning);
    // Both directions of every edge, then one entry for each pair.
    std::vector<std::int64_t> begin(index(n) + 1, 0);
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t e = offsets[index(i)]; e < offsets[index(i) + 1]; ++e) {
            const std::int64_t j = columns[index(e)];
            require(j >= 0 && j < n, "column " + std::to_string(j) + " in row " +
                                         std::to_string(i) + " is out of range");
            const T d = negate ? -distances[index(e)] : distances[index(e)];
            if (!(d > -std::numeric_limits<T>::infinity()))
                throw BadDistance(i, j, static_cast<double>(distances[index(e)]));
            if (i == j) continue;
            ++begin[index(i) + 1];
            ++begin[index(j) + 1];
        }
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<Entry> entries(index(begin.back()));
    std::vector<std::int64_t> next(begin.begin(), begin.end() - 1);
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t e = offsets[index(i)]; e < offsets[index(i) + 1]; ++e) {
            const std::int64_t j = columns[index(e)];
            if (i == j) continue;
            const T d = negate ? -distances[index(e)] : distances[index(e)];
            entries[index(next[index(i)]++)] = {static_cast<std::int32_t>(j), 1, d};
            entries[index(next[index(j)]++)] = {static_cast<std::int32_t>(i), 1, d};
        }
    std::vector<std::int32_t> count(index(n));
    levels.pool().parallel_for(
        n,
        [&](std::int64_t i, int) {
            const auto row = entries.begin() + begin[index(i)];
            const auto end = entries.begin() + begin[index(i) + 1];
            std::sort(row, end, [](const Entry& a, const Entry& b) {
                return a.cluster != b.cluster ? a.cluster < b.cluster : a.distance > b.distance;
            });
            const auto last = std::unique(
                row, end, [](const Entry& a, const Entry& b) { return a.cluster == b.cluster; });
            count[index(i)] = static_cast<std::int32_t>(last - row);
        },
        256, 0.0, 0.3);
    begin.pop_back();
    std::vector<std::int64_t> leaf(index(n));
    std::iota(leaf.begin(), leaf.end(), 0);
    ListLinkage<T> linkage(std::move(entries), std::move(begin), std::move(count),
                           std::vector<T>(index(n), std::numeric_limits<T>::infinity()), leaf);
    levels.merge_by_lists(linkage, [](std::int64_t, std::int64_t) { return std::optional<T>(); });
    levels.join_at_infinity();
    return levels.write(dendrogram);
}

#define CLIQUESIM_INSTANTIATE(T)                                                                  \
    template LinkageReport linkage_of_distances(UpperRows<const T>, bool, std::int64_t,           \
                                                MatrixView<double>, const Context&,               \
                                                const LinkageTuning&);                            \
    template LinkageReport linkage_overwriting(UpperRows<T>, bool, MatrixView<double>,            \
                                               const Context&, const LinkageTuning&);             \
    template LinkageReport linkage_of_vectors(MatrixView<const T>, Metric, Storage, std::int64_t, \
                                              MatrixView<double>, const Context&,                 \
                                              const LinkageTuning&);                              \
    template LinkageReport linkage_of_graph(                                                      \
        std::span<const std::int64_t>, std::span<const std::int64_t>, std::span<const T>, bool,   \
        MatrixView<double>, const Context&, const LinkageTuning&);
CLIQUESIM_INSTANTIATE(float)
CLIQUESIM_INSTANTIATE(double)
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim
