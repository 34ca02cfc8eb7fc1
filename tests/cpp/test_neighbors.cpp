#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "neighbors/candidates.hpp"
#include "neighbors/float_panels.hpp"
#include "neighbors/float_products.hpp"
#include "neighbors/int16_panels.hpp"
#include "neighbors/int16_products.hpp"
#include "neighbors/neighbors.hpp"
#include "neighbors/row_blocks.hpp"

using namespace cliquesim;

namespace {

std::vector<float> random_values(std::int64_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

const auto unused = [](std::int64_t, std::span<Candidate>) {};

}  // namespace

TEST_CASE("keys order by score, then by smaller code") {
    const float infinity = std::numeric_limits<float>::infinity();
    const std::vector<float> scores{-infinity, -2.5f, -1e-40f, 0.0f, 1e-40f, 3.0f, infinity};
    for (std::size_t a = 0; a < scores.size(); ++a) {
        CHECK(key_score(candidate_key(scores[a], 7)) == scores[a]);
        CHECK(candidate_key(scores[a], 3) > candidate_key(scores[a], 4));
        for (std::size_t b = 0; b < a; ++b)
            CHECK(candidate_key(scores[a], 9) > candidate_key(scores[b], 0));
    }
    CHECK(candidate_key(-0.0f, 5) == candidate_key(0.0f, 5));
    CHECK(candidate_key(-infinity, 0xfffffffeu) > 0);  // 0 stands for no candidate
}

TEST_CASE("a candidate table keeps the best k in whatever order they come") {
    for (std::int64_t k : {0, 1, 5, 40}) {
        std::mt19937 random(static_cast<unsigned>(k));
        std::vector<Candidate> all;
        for (std::int64_t i = 0; i < 500; ++i) {
            const auto score = static_cast<float>(random() % 20);
            all.push_back({score, score, candidate_code(i, false)});
        }
        std::vector<Candidate> expected = all;
        std::sort(expected.begin(), expected.end(), [](const Candidate& a, const Candidate& b) {
            return a.least_key() > b.least_key();
        });
        for (int repeat = 0; repeat < 4; ++repeat) {
            std::shuffle(all.begin(), all.end(), random);
            CandidateTable table(2, k);
            for (const Candidate& one : all)
                if (one.upper >= table.thresholds()[1]) table.push(1, one, unused);
            CHECK(table.sorted(0).empty());
            const auto found = table.sorted(1);
            REQUIRE(static_cast<std::int64_t>(found.size()) == k);
            for (std::size_t place = 0; place < found.size(); ++place)
                CHECK(found[place].code == expected[place].code);
        }
    }
}

TEST_CASE("a table of intervals keeps the best k, however wide they are") {
    const std::int64_t k = 6, n = 400;
    for (const float width : {0.01f, 1.0f, 50.0f}) {
        std::mt19937 random(3);
        std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
        std::vector<float> scores;
        CandidateTable table(1, k);
        std::int64_t resolved = 0;
        const auto resolve = [&](std::int64_t, std::span<Candidate> candidates) {
            for (Candidate& one : candidates) {
                const float score = scores[one.code >> 1];
                resolved += one.exact() ? 0 : 1;
                one = {score, score, one.code};
            }
        };
        for (std::int64_t i = 0; i < n; ++i) {
            scores.push_back(static_cast<float>(random() % 30));  // with ties
            const float below = width * uniform(random), above = width * uniform(random);
            const Candidate one{scores.back() - below, scores.back() + above,
                                candidate_code(i, false)};
            if (one.upper >= table.thresholds()[0]) table.push(0, one, resolve);
        }
        resolve(0, table.remaining(0));
        std::vector<std::pair<float, std::int64_t>> expected;
        for (std::int64_t i = 0; i < n; ++i)
            expected.emplace_back(-scores[static_cast<std::size_t>(i)], i);
        std::sort(expected.begin(), expected.end());
        const auto found = table.sorted(0);
        REQUIRE(found.size() == static_cast<std::size_t>(k));
        for (std::size_t place = 0; place < found.size(); ++place)
            CHECK((found[place].code >> 1) == expected[place].second);
        if (width < 0.1f) CHECK(resolved < n / 4);
    }
}

TEST_CASE("blocks cover all rows, with the halo and nothing beyond the ends") {
    for (std::int64_t rows : {1, 47, 384, 385, 2000})
        for (std::int64_t halo : {0, 1, 30, 100}) {
            const RowBlocks blocks(rows, 2, halo);
            std::int64_t covered = 0;
            REQUIRE(blocks.edge() % panel_rows == 0);
            for (std::int64_t block = 0; block < blocks.count(); ++block) {
                REQUIRE(blocks.begin(block) == covered);
                covered += blocks.size(block);
                REQUIRE(blocks.places(block) <= blocks.edge());
                CHECK(blocks.row_at(block, halo) == blocks.begin(block));
                for (std::int64_t place = 0; place < blocks.places(block); ++place) {
                    const std::int64_t row = blocks.begin(block) - halo + place;
                    CHECK(blocks.row_at(block, place) == (row >= 0 && row < rows ? row : -1));
                }
            }
            CHECK(covered == rows);
        }
}

TEST_CASE("a pair's product has the bits of the tile's") {
    for (std::int64_t dimensions : {1, 3, 16, 100, 511, 512, 513, 1984}) {
        const std::int64_t n = 50;
        const std::vector<float> values = random_values(n * dimensions, 5);
        const MatrixView<const float> rows(values.data(), n, dimensions);
        const RowBlocks blocks(n, dimensions, 0);
        const FloatPanels panels(rows, blocks, false);
        AlignedBuffer<float> packed, out(blocks.edge() * blocks.edge());
        const float* block = panels.block(0, packed);
        const TileShape shape{n, blocks.edge() / panel_rows, panel_depth(dimensions), false};
        float_tile(block, block, shape, chain_length(dimensions), out.data(), blocks.edge());
        const double allowed = product_error(dimensions);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < n; ++j) {
                const float* others[pair_group] = {rows.row(j), rows.row(0), rows.row(1),
                                                   rows.row(j)};
                float pairs[pair_group];
                float_pairs(rows.row(i), others, dimensions, pairs);
                const float tile = out.data()[i * blocks.edge() + j];
                CHECK(pairs[0] == tile);
                CHECK(pairs[3] == tile);
                double exact = 0, a = 0, b = 0;
                for (std::int64_t d = 0; d < dimensions; ++d) {
                    exact += static_cast<double>(rows(i, d)) * static_cast<double>(rows(j, d));
                    a += static_cast<double>(rows(i, d)) * static_cast<double>(rows(i, d));
                    b += static_cast<double>(rows(j, d)) * static_cast<double>(rows(j, d));
                }
                CHECK(std::abs(static_cast<double>(tile) - exact) <= allowed * std::sqrt(a * b));
            }
    }
}

TEST_CASE("int16 products stay within their bound, for rows of every kind") {
    const std::int64_t n = 40;
    for (std::int64_t dimensions : {1, 7, 300, 2001}) {
        std::vector<float> values = random_values(n * dimensions, 9);
        std::mt19937 random(1);
        for (std::int64_t i = 0; i < n; ++i) {  // one large number; lengths apart; all equal; zero
            float* row = values.data() + i * dimensions;
            if (i % 5 == 1) row[random() % static_cast<unsigned>(dimensions)] = 1e3f;
            if (i % 5 == 2)
                for (std::int64_t d = 0; d < dimensions; ++d) row[d] *= 1e-6f;
            if (i % 5 == 3) std::fill_n(row, dimensions, -7.0f);
            if (i == 4) std::fill_n(row, dimensions, 0.0f);
        }
        const MatrixView<const float> rows(values.data(), n, dimensions);
        const RowBlocks blocks(n, dimensions, 0);
        ThreadPool pool(Context{1, nullptr});
        const Int16Panels panels(rows, blocks, pool);
        REQUIRE(panels.in_range());
        CHECK(panels.rounding() <= std::sqrt(static_cast<double>(dimensions)) / 65000);
        const std::int64_t edge = blocks.edge();
        AlignedBuffer<float> out(edge * edge);
        const TileShape shape{n, edge / panel_rows, panels.depth(), false};
        const Int16Tile tile{panels.block(0),  panels.block(0), shape, panels.scales(0),
                             panels.scales(0), out.data(),      edge};
        const double r = panels.rounding();
        for (const auto multiply : {int16_tile, int16_tile_vnni}) {
            if (multiply == int16_tile_vnni && !has_vnni()) continue;
            multiply(tile);
            for (std::int64_t i = 0; i < n; ++i)
                for (std::int64_t j = 0; j < n; ++j) {
                    double exact = 0;
                    for (std::int64_t d = 0; d < dimensions; ++d)
                        exact += static_cast<double>(rows(i, d)) * static_cast<double>(rows(j, d));
                    const double lengths = static_cast<double>(panels.lengths()[i]) *
                                           static_cast<double>(panels.lengths()[j]);
                    const double apart =
                        std::abs(static_cast<double>(out.data()[i * edge + j]) - exact);
                    CHECK(apart <= (2 * r + r * r + 1e-6) * lengths);
                }
        }
    }
    const std::vector<float> tiny(8, 1e-20f);
    ThreadPool pool(Context{1, nullptr});
    CHECK(!Int16Panels({tiny.data(), 2, 4}, RowBlocks(2, 4, 0), pool).in_range());
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
                        {bottom_values.data(), n, k},
                        {},
                        {}},
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
