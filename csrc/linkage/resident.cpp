#include "linkage/resident.hpp"

#include <algorithm>
#include <limits>

#include "common/errors.hpp"
#include "linkage/lazy_rows.hpp"
#include "linkage/round_quality.hpp"

namespace cliquesim {

namespace {

// Rounds that merge all pairs of reciprocal nearest neighbours at once. Complete linkage is
// reducible (a merge brings no two clusters nearer), so such pairs are merges of the exact
// hierarchy, and a cached nearest neighbour stays one until it takes part in a merge itself.
//
// Where rounds are poor (few pairs, or most neighbours lost in each), the nearest-neighbour chain
// takes over until half of the clusters are gone: that bounds the whole by O(n^2).
template <typename T>
class CompleteLinkage {
  public:
    CompleteLinkage(MatrixView<T> distances, ThreadPool& pool, double progress_from)
        : pool_(pool), progress_from_(progress_from), rows_(distances), total_(distances.rows) {
        merges_.reserve(static_cast<std::size_t>(total_ - 1));
    }

    std::vector<Merge> run() {
        find_all_neighbors();
        while (rows_.alive_count() > 1) {
            if (2 * rows_.alive_count() <= rows_.width()) compact();
            if (!quality_.is_poor()) {
                merge_reciprocal_pairs();
                update_neighbors();
            } else {
                follow_chain((rows_.alive_count() + 1) / 2);
                quality_.forget();
                if (rows_.alive_count() == 1) break;
                rows_.compact(pool_);
                find_all_neighbors();
            }
        }
        return std::move(merges_);
    }

  private:
    static std::size_t index(std::int64_t c) { return static_cast<std::size_t>(c); }

    void find_all_neighbors() {
        nearest_.resize(index(rows_.width()));
        pool_.parallel_for(
            rows_.width(),
            [&](std::int64_t i, int) {
                const auto c = static_cast<std::int32_t>(i);
                if (!rows_.alive(c)) return;
                rows_.refresh(c);
                nearest_[index(c)] = rows_.nearest(c);
            },
            16);
    }

    void compact() {
        const auto renamed = rows_.compact(pool_);
        for (std::size_t c = 0; c < renamed.size(); ++c) {
            if (renamed[c] < 0) continue;
            auto entry = nearest_[c];
            entry.cluster = renamed[index(entry.cluster)];
            nearest_[index(renamed[c])] = entry;
        }
        nearest_.resize(index(rows_.width()));
    }

    // At least one pair exists: the first in index order among those at the smallest distance.
    void merge_reciprocal_pairs() {
        pairs_.clear();
        for (std::int32_t c = 0; c < rows_.width(); ++c) {
            if (!rows_.alive(c)) continue;
            const std::int32_t other = nearest_[index(c)].cluster;
            if (c < other && nearest_[index(other)].cluster == c) pairs_.emplace_back(c, other);
        }
        pool_.parallel_for(static_cast<std::int64_t>(pairs_.size()), [&](std::int64_t i, int) {
            rows_.merge_rows(pairs_[index(i)].first, pairs_[index(i)].second);
        });
        for (const auto& [a, b] : pairs_) add_merge(a, b, nearest_[index(a)].distance);
    }

    void add_merge(std::int32_t a, std::int32_t b, T height) {
        merges_.push_back({rows_.leaf(a), rows_.leaf(b), static_cast<double>(height)});
        rows_.record(a, b);
    }

    // After a round: merged clusters, and those whose neighbour was merged and moved away. A merged
    // neighbour at the same distance as before stays, under the smaller index: without that, all
    // duplicates would cost a rescan of everything per merge.
    void update_neighbors() {
        merged_into_.assign(index(rows_.width()), -1);
        for (const auto& [a, b] : pairs_) merged_into_[index(a)] = merged_into_[index(b)] = a;
        touched_.clear();
        for (std::int32_t c = 0; c < rows_.width(); ++c)
            if (rows_.alive(c) && merged_into_[index(nearest_[index(c)].cluster)] >= 0)
                touched_.push_back(c);
        lost_.assign(touched_.size(), 0);
        pool_.parallel_for(
            static_cast<std::int64_t>(touched_.size()),
            [&](std::int64_t i, int) {
                const std::int32_t c = touched_[index(i)];
                auto& entry = nearest_[index(c)];
                rows_.refresh(c);
                const std::int32_t target = merged_into_[index(entry.cluster)];
                if (target != c && rows_.distance(c, target) == entry.distance) {
                    entry.cluster = target;
                } else if (rows_.alive_count() > 1) {
                    entry = rows_.nearest(c);
                    lost_[index(i)] = 1;
                }
            },
            4);
        std::int64_t rescans = 0;
        for (const auto flag : lost_) rescans += flag;
        quality_.add(static_cast<std::int64_t>(pairs_.size()), rescans);
        pool_.check();
        report();
    }

    void report() {
        const double left = static_cast<double>(rows_.alive_count()) / static_cast<double>(total_);
        pool_.progress(progress_from_ + (1 - progress_from_) * (1 - left * left));
    }

    // Nearest-neighbour chain (Benzecri, Juan): each cluster's neighbour follows it until two are
    // each other's. O(width) per step, at most three steps a merge.
    void follow_chain(std::int32_t until) {
        std::vector<std::int32_t> chain;
        std::int32_t first = 0;
        while (rows_.alive_count() > until) {
            if (chain.empty()) {
                while (!rows_.alive(first)) ++first;
                chain.push_back(first);
            }
            const std::int32_t top = chain.back();
            rows_.refresh(top);
            auto next = rows_.nearest(top);
            const std::int32_t before = chain.size() > 1 ? chain[chain.size() - 2] : -1;
            if (before < 0 || rows_.distance(top, before) != next.distance) {
                chain.push_back(next.cluster);
                continue;
            }
            const std::int32_t a = std::min(top, before), b = std::max(top, before);
            rows_.merge_rows(a, b);
            add_merge(a, b, next.distance);
            chain.resize(chain.size() - 2);
            pool_.check();
            if (merges_.size() % 1024 == 0) report();
        }
    }

    ThreadPool& pool_;
    double progress_from_;
    LazyRows<T> rows_;
    std::int64_t total_;
    std::vector<Nearest<T>> nearest_;
    std::vector<Merge> merges_;
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;
    std::vector<std::int32_t> merged_into_, touched_;
    std::vector<std::uint8_t> lost_;
    RoundQuality quality_;
};

}  // namespace

template <typename T>
std::vector<Merge> complete_linkage(MatrixView<T> distances, ThreadPool& pool,
                                    double progress_from) {
    require(distances.rows == distances.cols, "distances must be square");
    require(distances.rows < std::numeric_limits<std::int32_t>::max(), "too many observations");
    if (distances.rows < 2) return {};
    return CompleteLinkage<T>(distances, pool, progress_from).run();
}

template <typename T>
void mirror_upper(MatrixView<T> square, ThreadPool& pool) {
    constexpr std::int64_t edge = 64;
    const std::int64_t n = square.rows, blocks = (n + edge - 1) / edge;
    pool.parallel_for(blocks, [&](std::int64_t bj, int) {
        for (std::int64_t bi = 0; bi <= bj; ++bi)
            for (std::int64_t j = bj * edge; j < std::min(n, (bj + 1) * edge); ++j)
                for (std::int64_t i = bi * edge; i < std::min(j, (bi + 1) * edge); ++i)
                    square(j, i) = square(i, j);
    });
}

template std::vector<Merge> complete_linkage(MatrixView<float>, ThreadPool&, double);
template std::vector<Merge> complete_linkage(MatrixView<double>, ThreadPool&, double);
template void mirror_upper(MatrixView<float>, ThreadPool&);
template void mirror_upper(MatrixView<double>, ThreadPool&);

}  // namespace cliquesim
