#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "cliques/cliques.hpp"
#include "cliques/member_similarity.hpp"

using namespace cliquesim;

namespace {

struct Corpus {
    std::int64_t n = 150, dim = 10, k = 14;
    std::vector<float> rows;
    std::vector<std::int64_t> groups, neighbors;

    explicit Corpus(unsigned seed) {
        std::mt19937 generator(seed);
        std::uniform_int_distribution<int> coarse(-4, 4), fine(-1, 1), pick(0, 9);
        std::vector<int> centres(static_cast<std::size_t>(10 * dim));
        for (auto& value : centres) value = coarse(generator);
        for (std::int64_t i = 0; i < n; ++i) {
            const int centre = pick(generator);
            for (std::int64_t d = 0; d < dim; ++d)
                rows.push_back(static_cast<float>(
                    centres[static_cast<std::size_t>(centre * dim + d)] + fine(generator)));
            groups.push_back(i / 10);
        }
        for (std::int64_t i = 0; i < n; ++i) {
            std::vector<std::int64_t> order(static_cast<std::size_t>(n));
            std::iota(order.begin(), order.end(), 0);
            std::erase(order, i);
            std::stable_sort(order.begin(), order.end(),
                             [&](std::int64_t a, std::int64_t b) { return dot(i, a) > dot(i, b); });
            neighbors.insert(neighbors.end(), order.begin(), order.begin() + k);
        }
    }

    float dot(std::int64_t i, std::int64_t j) const {
        const auto a = rows.begin() + i * dim, b = rows.begin() + j * dim;
        return std::inner_product(a, a + dim, b, 0.0F);
    }
    Descriptors descriptors(std::int64_t radius) const {
        return {MatrixView<const float>(rows.data(), n, dim), groups, radius};
    }
    MatrixView<const std::int64_t> lists() const { return {neighbors.data(), n, k}; }
};

}  // namespace

TEST_CASE("candidates are mutually similar and keep the cap; merging keeps it too") {
    for (unsigned seed = 0; seed < 5; ++seed) {
        const Corpus corpus(seed);
        const CliqueRules rules{corpus.groups, 2, 1, 0};
        const Context context{3, nullptr};
        const auto descriptors = corpus.descriptors(0);
        const float threshold = 40;
        const auto found =
            candidate_cliques(descriptors, corpus.lists(), rules, threshold, context);
        REQUIRE(found.size() == corpus.n);
        for (std::int64_t i = 0; i < found.size(); ++i) {
            CHECK(std::ranges::binary_search(found[i], i));
            for (const auto a : found[i])
                for (const auto b : found[i])
                    if (a != b) CHECK(corpus.dot(a, b) >= threshold);
        }
        const auto distinct = distinct_cliques(found, 2);
        MergeReport report;
        const auto merged = merge_cliques(descriptors, distinct, rules, {}, context, report);
        CHECK(report.merges + merged.size() == distinct.size());
        for (std::int64_t k = 0; k < merged.size(); ++k) {
            CHECK(std::ranges::is_sorted(merged[k]));
            for (const auto a : merged[k]) {
                const auto same = [&](std::int64_t b) {
                    return corpus.groups[static_cast<std::size_t>(a)] ==
                           corpus.groups[static_cast<std::size_t>(b)];
                };
                CHECK(std::ranges::count_if(merged[k], same) <= 2);
                if (a > 0 && same(a - 1)) CHECK(!std::ranges::binary_search(merged[k], a - 1));
            }
        }
    }
}

TEST_CASE("similarities of members are pooled within sequences") {
    const Corpus corpus(7);
    for (const std::int64_t radius : {0, 1, 3}) {
        const auto descriptors = corpus.descriptors(radius);
        const auto reach = reach_of(descriptors);
        MemberSimilarity similarity(descriptors, reach);
        const std::vector<std::int64_t> members{0, 3, 9, 10, 55, 149};
        const auto block = similarity.compute(members);
        for (std::size_t a = 0; a < members.size(); ++a) {
            for (std::size_t b = 0; b < members.size(); ++b) {
                float sum = 0;
                int count = 0;
                for (std::int64_t s = -radius; s <= radius; ++s) {
                    const std::int64_t i = members[a] + s, j = members[b] + s;
                    if (i < 0 || j < 0 || i >= corpus.n || j >= corpus.n) continue;
                    if (i / 10 != members[a] / 10 || j / 10 != members[b] / 10) continue;
                    sum += corpus.dot(i, j);
                    ++count;
                }
                CHECK(block(static_cast<std::int64_t>(a), static_cast<std::int64_t>(b)) ==
                      sum / static_cast<float>(count));
            }
        }
    }
}

TEST_CASE("nothing to merge, nothing to cover") {
    const Corpus corpus(1);
    MergeReport report;
    CHECK(merge_cliques(corpus.descriptors(0), {}, {}, {}, Context{2, nullptr}, report).size() ==
          0);
    CHECK(cover_greedily({}, corpus.n, 3).empty());
    CHECK(distinct_cliques({}, 1).size() == 0);
}
