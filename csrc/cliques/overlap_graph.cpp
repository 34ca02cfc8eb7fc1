#include "cliques/overlap_graph.hpp"

#include <algorithm>
#include <limits>

#include "common/errors.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

// Cliques of every frame, ascending: the transpose of C.
struct Postings {
    std::vector<std::int64_t> offsets;
    std::vector<std::int32_t> cliques;

    Postings(const CliqueList& list, std::int64_t num_frames)
        : offsets(index(num_frames) + 1, 0), cliques(list.members.size()) {
        for (const std::int64_t frame : list.members) ++offsets[index(frame) + 1];
        for (std::size_t f = 1; f < offsets.size(); ++f) offsets[f] += offsets[f - 1];
        auto next = offsets;
        for (std::int64_t k = 0; k < list.size(); ++k)
            for (const std::int64_t frame : list[k])
                cliques[index(next[index(frame)]++)] = static_cast<std::int32_t>(k);
    }

    std::span<const std::int32_t> operator[](std::int64_t frame) const {
        const std::int64_t begin = offsets[index(frame)], end = offsets[index(frame) + 1];
        return {cliques.data() + begin, index(end - begin)};
    }
};

std::int64_t common_members(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
    std::int64_t count = 0;
    for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        count += a[i] == b[j];
        const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
        i += step_a;
        j += step_b;
    }
    return count;
}

class RowBuilder {
  public:
    RowBuilder(const CliqueList& cliques, const Postings& postings, const MergeOptions& options)
        : cliques_(cliques),
          postings_(postings),
          options_(options),
          shared_(index(cliques.size()), 0) {}

    void build(std::int64_t k, std::vector<OverlapEdge>& row) {
        const bool complete = count_shared(k);
        row.clear();
        for (const std::int32_t other : found_) {
            const std::int64_t common =
                complete ? shared_[index(other)] : common_members(cliques_[k], cliques_[other]);
            shared_[index(other)] = 0;
            const float overlap = measure(common, cliques_[k].size(), cliques_[other].size());
            if (other != k && static_cast<double>(overlap) >= options_.min_overlap)
                row.push_back({other, overlap});
        }
        found_.clear();
        keep_strongest(row);
    }

  private:
    // Frames in very many cliques would make this quadratic; they still count in the overlap.
    bool count_shared(std::int64_t k) {
        bool complete = true;
        for (const std::int64_t frame : cliques_[k]) {
            const auto holders = postings_[frame];
            if (static_cast<std::int64_t>(holders.size()) > options_.max_posting) {
                complete = false;
                continue;
            }
            for (const std::int32_t other : holders)
                if (shared_[index(other)]++ == 0) found_.push_back(other);
        }
        return complete;
    }

    float measure(std::int64_t common, std::size_t size_a, std::size_t size_b) const {
        const auto shared = static_cast<double>(common);
        const auto a = static_cast<double>(size_a), b = static_cast<double>(size_b);
        const double whole = options_.overlap == Overlap::smaller ? std::min(a, b) : a + b - shared;
        return static_cast<float>(shared / whole);
    }

    void keep_strongest(std::vector<OverlapEdge>& row) const {
        const auto limit = index(options_.max_edges);
        if (row.size() > limit) {
            std::nth_element(row.begin(), row.begin() + options_.max_edges, row.end(),
                             [](const OverlapEdge& x, const OverlapEdge& y) {
                                 return x.overlap != y.overlap ? x.overlap > y.overlap
                                                               : x.clique < y.clique;
                             });
            row.resize(limit);
        }
        std::sort(row.begin(), row.end(),
                  [](const OverlapEdge& x, const OverlapEdge& y) { return x.clique < y.clique; });
        row.shrink_to_fit();
    }

    const CliqueList& cliques_;
    const Postings& postings_;
    const MergeOptions& options_;
    std::vector<std::int32_t> shared_, found_;
};

}  // namespace

OverlapGraph overlap_graph(const CliqueList& cliques, std::int64_t num_frames,
                           const MergeOptions& options, ThreadPool& pool) {
    require(cliques.size() < std::numeric_limits<std::int32_t>::max(), "too many cliques");
    const Postings postings(cliques, num_frames);
    std::vector<RowBuilder> builders(index(pool.size()), RowBuilder(cliques, postings, options));
    OverlapGraph graph(index(cliques.size()));
    pool.parallel_for(
        cliques.size(),
        [&](std::int64_t k, int worker) { builders[index(worker)].build(k, graph[index(k)]); }, 16,
        0.0, 0.2);
    // Which rows dropped an edge that its other end kept is read before anything is erased.
    std::vector<std::vector<std::uint8_t>> mutual(graph.size());
    pool.parallel_for(
        cliques.size(),
        [&](std::int64_t k, int) {
            for (const auto& edge : graph[index(k)]) {
                const auto& other = graph[index(edge.clique)];
                const auto at = std::lower_bound(
                    other.begin(), other.end(), k,
                    [](const OverlapEdge& x, std::int64_t value) { return x.clique < value; });
                mutual[index(k)].push_back(at != other.end() && at->clique == k);
            }
        },
        64);
    pool.parallel_for(
        cliques.size(),
        [&](std::int64_t k, int) {
            auto& row = graph[index(k)];
            std::size_t kept = 0;
            for (std::size_t e = 0; e < row.size(); ++e)
                if (mutual[index(k)][e]) row[kept++] = row[e];
            row.resize(kept);
        },
        64);
    return graph;
}

}  // namespace cliquesim
