#include <algorithm>
#include <vector>

#include "cliques/member_similarity.hpp"
#include "cliques/overlap_graph.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

struct Union {
    std::vector<std::int64_t> members;
    double intra = 0;
    bool accepted = false;
};

// The union of two cliques under the rules, and whether it is similar enough within.
class UnionTest {
  public:
    UnionTest(const Descriptors& descriptors, const SequenceReach& reach, const CliqueRules& rules,
              double ratio)
        : rules_(rules), ratio_(ratio), cap_(rules), similarity_(descriptors, reach) {}

    Union operator()(std::span<const std::int64_t> a, std::span<const std::int64_t> b,
                     double intra_a, double intra_b) {
        both_.clear();
        std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both_));
        const MatrixView<float> similarity = similarity_.compute(both_);
        apply_cap(similarity);
        Union result;
        result.intra = intra_similarity(similarity, chosen_);
        const bool fits = rules_.max_size == 0 || chosen_.size() <= index(rules_.max_size);
        result.accepted = fits && result.intra >= ratio_ * 0.5 * (intra_a + intra_b);
        if (result.accepted)
            for (const std::int32_t i : chosen_) result.members.push_back(both_[index(i)]);
        return result;
    }

  private:
    // Most similar to the rest of the union first; equal sums: the earlier frame.
    void apply_cap(MatrixView<const float> similarity) {
        const auto size = static_cast<std::int32_t>(similarity.rows);
        std::vector<double> sums(index(size), 0.0);
        chosen_.resize(index(size));
        for (std::int32_t i = 0; i < size; ++i) {
            chosen_[index(i)] = i;
            for (std::int32_t j = 0; j < size; ++j)
                if (i != j) sums[index(i)] += static_cast<double>(std::max(0.0F, similarity(i, j)));
        }
        if (rules_.groups.empty()) return;
        std::stable_sort(chosen_.begin(), chosen_.end(), [&](std::int32_t x, std::int32_t y) {
            return sums[index(x)] > sums[index(y)];
        });
        cap_.clear();
        std::erase_if(chosen_, [&](std::int32_t i) { return !cap_.take(both_[index(i)]); });
        std::sort(chosen_.begin(), chosen_.end());
    }

    const CliqueRules& rules_;
    double ratio_;
    GroupCap cap_;
    MemberSimilarity similarity_;
    std::vector<std::int64_t> both_;
    std::vector<std::int32_t> chosen_;
};

// Complete linkage on the overlap graph. As with distances, a merge makes no overlap stronger (the
// weakest of the constituents' counts, none if one is absent), so all pairs that are each other's
// strongest can be decided in the same round.
class Merger {
  public:
    Merger(const Descriptors& descriptors, const CliqueList& cliques, const CliqueRules& rules,
           const MergeOptions& options, const Context& context)
        : pool_(context),
          reach_(reach_of(descriptors)),
          graph_(overlap_graph(cliques, descriptors.rows.rows, options, pool_)),
          intra_(cliques.intra),
          strongest_(graph_.size(), -1),
          merged_into_(graph_.size(), -1),
          stale_(graph_.size(), 1),
          tests_(index(pool_.size()), UnionTest(descriptors, reach_, rules, options.ratio)) {
        members_.reserve(graph_.size());
        for (std::int64_t k = 0; k < cliques.size(); ++k)
            members_.emplace_back(cliques[k].begin(), cliques[k].end());
    }

    CliqueList run(MergeReport& report) {
        for (const auto& row : graph_) report.edges += static_cast<std::int64_t>(row.size());
        report.edges /= 2;
        const auto total = static_cast<double>(std::max<std::int64_t>(report.edges, 1));
        while (find_pairs()) {
            unions_.resize(pairs_.size());
            pool_.parallel_for(
                static_cast<std::int64_t>(pairs_.size()), [&](std::int64_t i, int worker) {
                    const auto [a, b] = pairs_[index(i)];
                    unions_[index(i)] = tests_[index(worker)](
                        members_[index(a)], members_[index(b)], intra_[index(a)], intra_[index(b)]);
                });
            apply(report);
            ++report.rounds;
            std::int64_t edges = 0;
            for (const auto& row : graph_) edges += static_cast<std::int64_t>(row.size());
            pool_.progress(1 - 0.8 * (static_cast<double>(edges) / 2) / total);
            pool_.check();
        }
        CliqueList result;
        for (std::size_t k = 0; k < members_.size(); ++k)
            if (!members_[k].empty()) result.append(members_[k], intra_[k]);
        return result;
    }

  private:
    bool find_pairs() {
        pool_.parallel_for(
            static_cast<std::int64_t>(graph_.size()),
            [&](std::int64_t k, int) {
                if (!stale_[index(k)]) return;
                stale_[index(k)] = 0;
                const auto& row = graph_[index(k)];
                const auto best = std::max_element(row.begin(), row.end(),
                                                   [](const OverlapEdge& x, const OverlapEdge& y) {
                                                       return x.overlap < y.overlap;
                                                   });
                strongest_[index(k)] = best == row.end() ? -1 : best->clique;
            },
            1024);
        pairs_.clear();
        for (std::size_t a = 0; a < strongest_.size(); ++a) {
            const std::int32_t b = strongest_[a];
            if (b > static_cast<std::int32_t>(a) &&
                strongest_[index(b)] == static_cast<std::int32_t>(a))
                pairs_.emplace_back(static_cast<std::int32_t>(a), b);
        }
        return !pairs_.empty();
    }

    void apply(MergeReport& report) {
        touched_.clear();
        for (std::size_t i = 0; i < pairs_.size(); ++i) {
            const auto [a, b] = pairs_[i];
            if (unions_[i].accepted) {
                join(a, b, unions_[i]);
                ++report.merges;
            } else {
                erase_edge(a, b);
                erase_edge(b, a);
                ++report.vetoes;
            }
        }
        pool_.parallel_for(
            static_cast<std::int64_t>(touched_.size()),
            [&](std::int64_t i, int) { relabel(graph_[index(touched_[index(i)])]); }, 16);
        for (std::size_t i = 0; i < pairs_.size(); ++i) {
            merged_into_[index(pairs_[i].first)] = merged_into_[index(pairs_[i].second)] = -1;
        }
    }

    void touch(std::int32_t k) {
        // Rows of this round's touched cliques are visited once.
        if (stale_[index(k)] == 2) return;
        stale_[index(k)] = 2;
        touched_.push_back(k);
    }

    void join(std::int32_t a, std::int32_t b, Union& merged) {
        members_[index(a)] = std::move(merged.members);
        intra_[index(a)] = merged.intra;
        members_[index(b)].clear();
        merged_into_[index(a)] = merged_into_[index(b)] = a;
        for (const auto& edge : graph_[index(a)]) touch(edge.clique);
        for (const auto& edge : graph_[index(b)]) touch(edge.clique);
        touch(a);
        touch(b);
        intersect(graph_[index(a)], graph_[index(b)]);
        graph_[index(b)].clear();
    }

    static void intersect(std::vector<OverlapEdge>& into, const std::vector<OverlapEdge>& other) {
        std::size_t kept = 0, j = 0;
        for (std::size_t i = 0; i < into.size(); ++i) {
            while (j < other.size() && other[j].clique < into[i].clique) ++j;
            if (j < other.size() && other[j].clique == into[i].clique)
                into[kept++] = {into[i].clique, std::min(into[i].overlap, other[j].overlap)};
        }
        into.resize(kept);
    }

    void erase_edge(std::int32_t from, std::int32_t to) {
        std::erase_if(graph_[index(from)], [&](const OverlapEdge& e) { return e.clique == to; });
        stale_[index(from)] = std::max<std::uint8_t>(stale_[index(from)], 1);
    }

    // Both halves of a merged pair must be there; the weaker one counts, under the smaller index.
    void relabel(std::vector<OverlapEdge>& row) {
        std::size_t kept = 0;
        for (std::size_t e = 0; e < row.size(); ++e) {
            const std::int32_t target = merged_into_[index(row[e].clique)];
            if (target < 0) {
                row[kept++] = row[e];
            } else if (target == row[e].clique) {
                float other = -1;
                for (std::size_t f = e + 1; f < row.size(); ++f)
                    if (merged_into_[index(row[f].clique)] == target) other = row[f].overlap;
                if (other >= 0) row[kept++] = {target, std::min(row[e].overlap, other)};
            }
        }
        row.resize(kept);
    }

    ThreadPool pool_;
    SequenceReach reach_;
    OverlapGraph graph_;
    std::vector<std::vector<std::int64_t>> members_;  // empty: merged away
    std::vector<double> intra_;
    std::vector<std::int32_t> strongest_, merged_into_, touched_;
    std::vector<std::uint8_t> stale_;
    std::vector<UnionTest> tests_;
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;
    std::vector<Union> unions_;
};

}  // namespace

CliqueList merge_cliques(const Descriptors& descriptors, const CliqueList& cliques,
                         const CliqueRules& rules, const MergeOptions& options,
                         const Context& context, MergeReport& report) {
    return Merger(descriptors, cliques, rules, options, context).run(report);
}

}  // namespace cliquesim
