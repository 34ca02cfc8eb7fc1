#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "temporal/pool_grid.hpp"
#include "temporal/pooling.hpp"
#include "temporal/sequences.hpp"
#include "temporal/temporal.hpp"
#include "temporal/windows.hpp"

using namespace cliquesim;

namespace {

std::vector<std::int64_t> random_sequences(std::mt19937& random, std::int64_t n, int longest) {
    std::vector<std::int64_t> sequence;
    for (std::int64_t label = 100; static_cast<std::int64_t>(sequence.size()) < n; --label)
        sequence.insert(sequence.end(), 1 + random() % static_cast<unsigned>(longest), label);
    sequence.resize(static_cast<std::size_t>(n));
    return sequence;
}

std::vector<float> random_values(std::mt19937& random, std::int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

}  // namespace

TEST_CASE("a sequence's reach ends at its ends and at the radius") {
    const std::vector<std::int64_t> sequence{4, 4, 4, 4, 4, 9, 2, 2};
    const SequenceReach reach = sequence_reach(sequence, 2, "sequence");
    CHECK(reach.before == std::vector<std::int32_t>{0, 1, 2, 2, 2, 0, 0, 1});
    CHECK(reach.after == std::vector<std::int32_t>{2, 2, 2, 1, 0, 0, 1, 0});
    CHECK(reach.radius() == 2);
    CHECK(sequence_reach({}, 3, "sequence").radius() == 0);
}

TEST_CASE("sequences that are left and entered again are refused") {
    const std::vector<std::int64_t> sequence{1, 1, 2, 1};
    CHECK_THROWS_WITH_AS(sequence_reach(sequence, 1, "sequence"),
                         doctest::Contains("row 3 returns to it after row 1"),
                         std::invalid_argument);
}

TEST_CASE("every window of a plan is a contiguous piece of its frames") {
    for (unsigned seed = 0; seed < 20; ++seed) {
        std::mt19937 random(seed);
        const auto sequence = random_sequences(random, 200, 1 + static_cast<int>(seed));
        const auto reach = sequence_reach(sequence, seed % 5, "sequence");
        std::vector<std::int64_t> requests(40);
        for (auto& request : requests) request = static_cast<std::int64_t>(random() % 200);
        const WindowPlan plan = plan_windows(requests, reach, "rows");
        CHECK(std::adjacent_find(plan.frames.begin(), plan.frames.end(), std::greater_equal<>()) ==
              plan.frames.end());
        for (std::size_t i = 0; i < requests.size(); ++i) {
            const Reach own = reach[requests[i]];
            for (std::int64_t n = -own.before; n <= own.after; ++n)
                CHECK(plan.frames.at(static_cast<std::size_t>(plan.positions[i] + n)) ==
                      requests[i] + n);
        }
    }
}

TEST_CASE("the CUDA kernel's threads, run one by one, pool every pair as the CPU does") {
    for (unsigned seed = 0; seed < 6; ++seed) {
        std::mt19937 random(seed);
        const std::int64_t n = 90, stride = 97, radius = seed;
        const auto sequence = random_sequences(random, n, 20);
        const auto reach = sequence_reach(sequence, radius, "sequence");
        const auto products = random_values(random, n * stride);
        std::vector<std::int64_t> positions(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i) positions[static_cast<std::size_t>(i)] = i;
        std::vector<float> out(static_cast<std::size_t>(n * n), -1e30f);
        const PoolGrid grid{products.data(),    stride, positions.data(), reach.before.data(),
                            reach.after.data(), n,      positions.data(), reach.before.data(),
                            reach.after.data(), n,      out.data(),       n};
        const std::int64_t rows = 7, cols = 32;  // a grid smaller than the matrix
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t col = 0; col < cols; ++col)
                pool_grid_thread(grid, row, rows, col, cols);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < n; ++j) {
                double sum = 0;
                int count = 0;
                for (std::int64_t m = -radius; m <= radius; ++m) {
                    if (std::min(i, j) + m < 0 || std::max(i, j) + m >= n) continue;
                    const auto at = [&](std::int64_t k) {
                        return sequence[static_cast<std::size_t>(k)];
                    };
                    if (at(i + m) != at(i) || at(j + m) != at(j)) continue;
                    sum += products[static_cast<std::size_t>((i + m) * stride + j + m)];
                    ++count;
                }
                CHECK(out[static_cast<std::size_t>(i * n + j)] ==
                      doctest::Approx(sum / count).epsilon(1e-5));
            }
        // The vectorised row gives the same bits; its reads need the columns' full radius.
        std::vector<float> row(static_cast<std::size_t>(n - 2 * radius));
        for (std::int64_t i = 0; i < n; ++i) {
            pooled_row(products.data() + i * stride + radius, stride, reach[i],
                       reach.before.data() + radius, reach.after.data() + radius, n - 2 * radius,
                       row.data());
            CHECK(std::equal(row.begin(), row.end(), out.begin() + i * n + radius));
        }
    }
}

TEST_CASE("pooled similarity of chosen frames") {
    std::mt19937 random(3);
    const std::int64_t n = 150, dimensions = 5;
    const auto features = random_values(random, n * dimensions);
    const auto sequence = random_sequences(random, n, 12);
    const std::vector<std::int64_t> rows{149, 0, 77, 77}, cols{5, 148, 3};
    const MatrixView<const float> view(features.data(), n, dimensions);
    std::vector<float> out(12);
    pooled_similarity({view, view, rows, cols, sequence, 2, false}, {out.data(), 4, 3},
                      Context{2, nullptr});
    const auto reach = sequence_reach(sequence, 2, "sequence");
    for (std::size_t i = 0; i < rows.size(); ++i)
        for (std::size_t j = 0; j < cols.size(); ++j) {
            const auto before = std::min(reach[rows[i]].before, reach[cols[j]].before);
            const auto after = std::min(reach[rows[i]].after, reach[cols[j]].after);
            double sum = 0;
            for (std::int64_t m = -before; m <= after; ++m)
                for (std::int64_t d = 0; d < dimensions; ++d)
                    sum += static_cast<double>(view(rows[i] + m, d)) * view(cols[j] + m, d);
            CHECK(out[i * 3 + j] == doctest::Approx(sum / (before + after + 1)).epsilon(1e-4));
        }
}
