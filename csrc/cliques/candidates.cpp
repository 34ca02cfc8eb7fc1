#include <algorithm>
#include <numeric>
#include <vector>

#include "cliques/member_similarity.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

// Complete linkage of a neighbourhood, followed only as far as the cluster of member 0 grows.
// Similarities: the larger the nearer; equal ones: the smallest positions first.
class NeighborhoodLinkage {
  public:
    // Positions of the cluster of position 0, ascending. `similarity` is destroyed. O(m^2)
    // typically.
    const std::vector<std::int32_t>& cluster_of_first(MatrixView<float> similarity,
                                                      float threshold) {
        const auto size = static_cast<std::int32_t>(similarity.rows);
        alive_.resize(index(size));
        std::iota(alive_.begin(), alive_.end(), 0);
        label_ = alive_;
        best_.resize(index(size));
        for (const std::int32_t c : alive_) find_best(similarity, c);
        while (alive_.size() > 1) {
            std::int32_t a = 0;
            for (const std::int32_t c : alive_)
                if (best_[index(c)].similarity > best_[index(a)].similarity) a = c;
            // A merge brings nobody nearer, so once nobody is near enough to 0, nobody will be.
            if (best_[0].similarity < threshold || best_[index(a)].similarity < threshold) break;
            merge(similarity, a, best_[index(a)].cluster);
        }
        cluster_.clear();
        for (std::int32_t i = 0; i < size; ++i)
            if (label_[index(i)] == 0) cluster_.push_back(i);
        return cluster_;
    }

  private:
    struct Best {
        std::int32_t cluster;
        float similarity;
    };

    static std::size_t index(std::int32_t c) { return static_cast<std::size_t>(c); }

    void find_best(MatrixView<float> similarity, std::int32_t c) {
        Best best{-1, 0};
        for (const std::int32_t other : alive_)
            if (other != c && (best.cluster < 0 || similarity(c, other) > best.similarity))
                best = {other, similarity(c, other)};
        best_[index(c)] = best;
    }

    void merge(MatrixView<float> similarity, std::int32_t a, std::int32_t b) {
        if (b < a) std::swap(a, b);
        alive_.erase(std::lower_bound(alive_.begin(), alive_.end(), b));
        for (auto& label : label_)
            if (label == b) label = a;
        for (const std::int32_t c : alive_)
            similarity(a, c) = similarity(c, a) = std::min(similarity(a, c), similarity(b, c));
        for (const std::int32_t c : alive_) {
            auto& best = best_[index(c)];
            if (c != a && best.cluster != a && best.cluster != b) continue;
            if (c != a && similarity(c, a) == best.similarity)
                best.cluster = a;
            else
                find_best(similarity, c);
        }
    }

    std::vector<std::int32_t> alive_, label_, cluster_;
    std::vector<Best> best_;
};

class CandidateBuilder {
  public:
    CandidateBuilder(const Descriptors& descriptors, const SequenceReach& reach,
                     const CliqueRules& rules)
        : rules_(rules), cap_(rules), similarity_(descriptors, reach) {}

    // Sorted members into `out`; returns their intra-clique similarity.
    double build(std::int64_t frame, std::span<const std::int64_t> neighbors, float threshold,
                 std::vector<std::int64_t>& out) {
        gather_neighborhood(frame, neighbors);
        const MatrixView<float> similarity = similarity_.compute(members_);
        const std::int64_t size = similarity.rows;
        linked_.resize(static_cast<std::size_t>(size * size));
        const MatrixView<float> copy(linked_.data(), size, size);
        for (std::int64_t i = 0; i < size; ++i) std::copy_n(similarity.row(i), size, copy.row(i));
        chosen_ = linkage_.cluster_of_first(copy, threshold);
        limit_size(similarity);
        out.clear();
        for (const std::int32_t i : chosen_) out.push_back(members_[static_cast<std::size_t>(i)]);
        std::sort(out.begin(), out.end());
        return intra_similarity(similarity, chosen_);
    }

  private:
    void gather_neighborhood(std::int64_t frame, std::span<const std::int64_t> neighbors) {
        members_.assign(1, frame);
        cap_.clear();
        cap_.take(frame);
        for (const std::int64_t other : neighbors) {
            if (other < 0) continue;
            if (std::find(members_.begin(), members_.end(), other) != members_.end()) continue;
            if (cap_.take(other)) members_.push_back(other);
        }
    }

    void limit_size(MatrixView<const float> similarity) {
        const auto limit = static_cast<std::size_t>(rules_.max_size);
        if (limit == 0 || chosen_.size() <= limit) return;
        std::stable_sort(chosen_.begin() + 1, chosen_.end(), [&](std::int32_t x, std::int32_t y) {
            return similarity(0, x) > similarity(0, y);
        });
        chosen_.resize(limit);
        std::sort(chosen_.begin(), chosen_.end());
    }

    const CliqueRules& rules_;
    GroupCap cap_;
    MemberSimilarity similarity_;
    NeighborhoodLinkage linkage_;
    std::vector<std::int64_t> members_;
    std::vector<std::int32_t> chosen_;
    std::vector<float> linked_;
};

}  // namespace

CliqueList candidate_cliques(const Descriptors& descriptors,
                             MatrixView<const std::int64_t> neighbors, const CliqueRules& rules,
                             float threshold, const Context& context) {
    const std::int64_t n = descriptors.rows.rows;
    require(neighbors.rows == n, "neighbors must have a row per frame");
    const SequenceReach reach = reach_of(descriptors);
    ThreadPool pool(context);
    std::vector<CandidateBuilder> builders(static_cast<std::size_t>(pool.size()),
                                           CandidateBuilder(descriptors, reach, rules));
    // Frames in slabs, so that the lists of a slab join the result before the next.
    constexpr std::int64_t slab = 8192;
    std::vector<std::vector<std::int64_t>> members(static_cast<std::size_t>(std::min(n, slab)));
    std::vector<double> intra(members.size());
    CliqueList result;
    for (std::int64_t start = 0; start < n; start += slab) {
        const std::int64_t count = std::min(slab, n - start);
        pool.parallel_for(
            count,
            [&](std::int64_t i, int worker) {
                intra[static_cast<std::size_t>(i)] =
                    builders[static_cast<std::size_t>(worker)].build(
                        start + i, neighbors.row_span(start + i), threshold,
                        members[static_cast<std::size_t>(i)]);
            },
            8, static_cast<double>(start) / static_cast<double>(n),
            static_cast<double>(start + count) / static_cast<double>(n));
        for (std::int64_t i = 0; i < count; ++i)
            result.append(members[static_cast<std::size_t>(i)], intra[static_cast<std::size_t>(i)]);
    }
    return result;
}

}  // namespace cliquesim
