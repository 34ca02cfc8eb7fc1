#include "linkage/contraction.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "common/lanes.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

constexpr std::int64_t block = 32;  // clusters whose rows are made together

// Where the columns of a row go: the first item of every cluster, in the order of clusters, and all
// further items, ascending, with their clusters.
struct Columns {
    std::vector<std::int32_t> first, further, further_cluster;

    explicit Columns(const Grouping& groups) {
        for (std::int64_t c = 0; c < groups.size(); ++c) first.push_back(groups[c].front());
        for (std::size_t item = 0; item < groups.label.size(); ++item) {
            const std::int32_t cluster = groups.label[item];
            if (first[index(cluster)] == static_cast<std::int32_t>(item)) continue;
            further.push_back(static_cast<std::int32_t>(item));
            further_cluster.push_back(cluster);
        }
    }
};

// Only pairs of an item and a later one are stored. So the distance of two clusters is the larger
// of two halves: what the rows of the one say, and what the rows of the other say.
template <typename S>
class Contraction {
    using V = ValueOf<S>;
    static constexpr V none = -std::numeric_limits<V>::infinity();

  public:
    Contraction(const UpperRows<const S>& items, const Grouping& groups,
                const UpperRows<V>& clusters, ThreadPool& pool)
        : items_(items), groups_(groups), columns_(groups), clusters_(clusters), pool_(pool) {}

    void run() {
        const std::int64_t m = groups_.size();
        const auto workers = static_cast<std::int64_t>(pool_.size());
        std::vector<std::vector<V>> halves(index(workers)), rows(index(workers));
        for (auto& half : halves) half.resize(index(block * stride()));
        for (auto& row : rows) row.resize(index(items_.size()));
        // A few blocks at a time: first all are made, then all are entered. The rows of clusters up
        // to a block need no more room than the items before the block's had, so `clusters` may lie
        // where `items` does.
        for (std::int64_t first = 0; first < blocks(); first += workers) {
            const std::int64_t count = std::min(workers, blocks() - first);
            pool_.parallel_for(count, [&](std::int64_t b, int worker) {
                const std::int64_t begin = (first + b) * block;
                for (std::int64_t a = begin; a < std::min(m, begin + block); ++a)
                    contract_row(a, rows[index(worker)].data(),
                                 halves[index(b)].data() + (a - begin) * stride());
            });
            for (std::int64_t a = first * block; a < std::min(m, (first + count) * block); ++a)
                std::fill(clusters_.row(a) + a + 1, clusters_.row(a) + m, none);
            for (std::int64_t b = 0; b < count; ++b)
                pool_.parallel_for(
                    blocks(),
                    [&](std::int64_t c, int) {
                        enter(first + b, c, halves[index(b)].data(), stride());
                    },
                    16);
            pool_.check();
        }
    }

  private:
    // Keeps equal columns of a block's rows in different cache sets.
    std::int64_t stride() const { return groups_.size() + lanes; }
    std::int64_t blocks() const { return (groups_.size() + block - 1) / block; }

    // Maxima over the cluster's items, then over those of every cluster.
    void contract_row(std::int64_t cluster, V* row, V* out) {
        const auto members = groups_[cluster];
        const S* source = items_.row(members.front());
        if (members.size() == 1) return spread(cluster, source, out);
        const std::int64_t n = items_.size();
        for (std::int64_t j = members.front() + 1; j < n; ++j) row[j] = static_cast<V>(source[j]);
        for (const std::int32_t member : members.subspan(1)) {
            source = items_.row(member);
            for (std::int64_t j = member + 1; j < n; ++j) {
                const V d = static_cast<V>(source[j]);
                row[j] = row[j] < d ? d : row[j];
            }
        }
        spread(cluster, row, out);
    }

    template <typename R>
    void spread(std::int64_t cluster, const R* row, V* out) {
        const std::int64_t m = groups_.size();
        const std::int32_t* first = columns_.first.data();
        std::fill(out, out + cluster + 1, none);
        for (std::int64_t c = cluster + 1; c < m; ++c) out[c] = static_cast<V>(row[first[c]]);
        const auto begin =
            std::upper_bound(columns_.further.begin(), columns_.further.end(), first[cluster]) -
            columns_.further.begin();
        for (std::size_t k = index(begin); k < columns_.further.size(); ++k) {
            const V d = static_cast<V>(row[columns_.further[k]]);
            V& known = out[columns_.further_cluster[k]];
            known = known < d ? d : known;
        }
    }

    // The half of block b's rows that belongs to the columns of block c.
    void enter(std::int64_t b, std::int64_t c, const V* half, std::int64_t stride) {
        const std::int64_t m = groups_.size(), row_begin = b * block, col_begin = c * block;
        const std::int64_t rows = std::min(block, m - row_begin);
        const std::int64_t col_end = std::min(m, col_begin + block);
        if (c >= b) {
            for (std::int64_t i = 0; i < rows; ++i) {
                V* into = clusters_.row(row_begin + i);
                for (std::int64_t j = std::max(col_begin, row_begin + i + 1); j < col_end; ++j)
                    into[j] = std::max(into[j], half[i * stride + j]);
            }
        }
        if (c <= b) {
            for (std::int64_t j = col_begin; j < col_end; ++j) {
                V* into = clusters_.row(j) + row_begin;
                for (std::int64_t i = std::max<std::int64_t>(0, j + 1 - row_begin); i < rows; ++i)
                    into[i] = std::max(into[i], half[i * stride + j]);
            }
        }
    }

    const UpperRows<const S>& items_;
    const Grouping& groups_;
    Columns columns_;
    const UpperRows<V>& clusters_;
    ThreadPool& pool_;
};

}  // namespace

template <typename S>
void contract(const UpperRows<const S>& items, const Grouping& groups,
              const UpperRows<ValueOf<S>>& clusters, ThreadPool& pool) {
    Contraction<S>(items, groups, clusters, pool).run();
}

#define CLIQUESIM_INSTANTIATE(S)                                          \
    template void contract<S>(const UpperRows<const S>&, const Grouping&, \
                              const UpperRows<ValueOf<S>>&, ThreadPool&);
CLIQUESIM_INSTANTIATE(float)
CLIQUESIM_INSTANTIATE(double)
CLIQUESIM_INSTANTIATE(std::uint16_t)
#undef CLIQUESIM_INSTANTIATE

}  // namespace cliquesim
