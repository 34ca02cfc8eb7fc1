#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "neighbors/candidates.hpp"
#include "neighbors/neighbors.hpp"
#include "neighbors/row_blocks.hpp"

using namespace cliquesim;

TEST_CASE("keys order by score, then by smaller index") {
    const float infinity = std::numeric_limits<float>::infinity();
    const std::vector<float> scores{-infinity, -2.5f, -1e-40f, 0.0f, 1e-40f, 3.0f, infinity};
    for (std::size_t a = 0; a < scores.size(); ++a) {
        CHECK(key_score(candidate_key(scores[a], 7)) == scores[a]);
        CHECK(key_index(candidate_key(scores[a], 4294967294)) == 4294967294);
        CHECK(candidate_key(scores[a], 3) > candidate_key(scores[a], 4));
        for (std::size_t b = 0; b < a; ++b)
            CHECK(candidate_key(scores[a], 9) > candidate_key(scores[b], 0));
    }
    CHECK(candidate_key(-0.0f, 5) == candidate_key(0.0f, 5));
    CHECK(candidate_key(-infinity, 4294967294) > 0);  // 0 stands for no candidate
}

TEST_CASE("a candidate table keeps the best k in whatever order they come") {
    for (std::int64_t k : {0, 1, 5, 40}) {
        std::mt19937 random(static_cast<unsigned>(k));
        std::vector<std::uint64_t> keys;
        for (std::int64_t i = 0; i < 500; ++i)
            keys.push_back(candidate_key(static_cast<float>(random() % 20), i));
        std::vector<std::uint64_t> expected = keys;
        std::sort(expected.begin(), expected.end(), std::greater<>());
        expected.resize(static_cast<std::size_t>(k));
        for (int repeat = 0; repeat < 4; ++repeat) {
            std::shuffle(keys.begin(), keys.end(), random);
            CandidateTable table(2, k);
            for (const auto key : keys)
                if (key_score(key) >= table.thresholds()[1]) table.push(1, key);
            CHECK(table.sorted(0).empty());
            const auto found = table.sorted(1);
            CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
        }
    }
}

TEST_CASE("panels hold the block's rows, the halo, and zeros beyond the ends") {
    for (std::int64_t rows : {1, 47, 384, 385, 2000})
        for (std::int64_t halo : {0, 1, 30, 100}) {
            std::vector<float> values(static_cast<std::size_t>(rows * 2));
            for (std::size_t i = 0; i < values.size(); ++i)
                values[i] = 1.0f + static_cast<float>(i);
            const MatrixView<const float> view(values.data(), rows, 2);
            const RowBlocks blocks(view, halo);
            std::int64_t covered = 0;
            for (std::int64_t block = 0; block < blocks.count(); ++block) {
                REQUIRE(blocks.begin(block) == covered);
                covered += blocks.size(block);
                const auto panel = blocks.panel(block);
                REQUIRE(panel.rows == blocks.edge());
                REQUIRE(blocks.size(block) + 2 * halo <= blocks.edge());
                bool same = true;
                for (std::int64_t r = 0; r < panel.rows; ++r) {
                    const std::int64_t row = blocks.begin(block) - halo + r;
                    for (std::int64_t d = 0; d < 2; ++d)
                        same = same && panel(r, d) == (row >= 0 && row < rows ? view(row, d) : 0);
                }
                CHECK(same);
            }
            CHECK(covered == rows);
        }
}

TEST_CASE("neighbours of integer rows, ties by index, any thread count") {
    std::mt19937 random(1);
    const std::int64_t n = 1000, dimensions = 3, k = 9;
    std::vector<float> values(static_cast<std::size_t>(n * dimensions));
    for (float& value : values) value = static_cast<float>(random() % 5) - 2;
    NeighborSearch search;
    search.corpus = {values.data(), n, dimensions};
    for (int threads : {1, 3}) {
        std::vector<std::int64_t> indices(static_cast<std::size_t>(n * k)), bottom(indices.size());
        std::vector<float> top_values(indices.size()), bottom_values(indices.size());
        find_neighbors(search,
                       {{indices.data(), n, k},
                        {top_values.data(), n, k},
                        {bottom.data(), n, k},
                        {bottom_values.data(), n, k}},
                       Context{threads, nullptr});
        for (std::int64_t i = 0; i < n; ++i) {
            std::vector<std::pair<float, std::int64_t>> all;
            for (std::int64_t j = 0; j < n; ++j) {
                float dot = 0;
                for (std::int64_t d = 0; d < dimensions; ++d)
                    dot += search.corpus(i, d) * search.corpus(j, d);
                if (j != i) all.emplace_back(-dot, j);
            }
            std::sort(all.begin(), all.end());
            bool same = true;
            for (std::int64_t place = 0; place < k; ++place) {
                const auto at = static_cast<std::size_t>(i * k + place);
                const auto& best = all[static_cast<std::size_t>(place)];
                same = same && indices[at] == best.second && top_values[at] == -best.first;
            }
            for (auto& [value, j] : all) value = -value;
            std::sort(all.begin(), all.end());
            for (std::int64_t place = 0; place < k; ++place) {
                const auto at = static_cast<std::size_t>(i * k + place);
                const auto& worst = all[static_cast<std::size_t>(place)];
                same = same && bottom[at] == worst.second && bottom_values[at] == worst.first;
            }
            CHECK(same);
        }
    }
}
