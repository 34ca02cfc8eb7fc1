#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "common/errors.hpp"
#include "linkage/linkage.hpp"
#include "linkage/resident.hpp"
#include "linkage/upper_chain.hpp"

using namespace cliquesim;

namespace {

// O(n^3): the first smallest pair each time.
std::vector<double> naive_heights(std::vector<double> square, std::int64_t n) {
    std::vector<char> alive(static_cast<std::size_t>(n), 1);
    std::vector<double> heights;
    const auto at = [&](std::int64_t i, std::int64_t j) -> double& {
        return square[static_cast<std::size_t>(i * n + j)];
    };
    for (std::int64_t step = 0; step + 1 < n; ++step) {
        std::int64_t a = -1, b = -1;
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j)
                if (alive[static_cast<std::size_t>(i)] && alive[static_cast<std::size_t>(j)] &&
                    (a < 0 || at(i, j) < at(a, b))) {
                    a = i;
                    b = j;
                }
        heights.push_back(at(a, b));
        alive[static_cast<std::size_t>(b)] = 0;
        for (std::int64_t k = 0; k < n; ++k) at(a, k) = at(k, a) = std::max(at(a, k), at(b, k));
    }
    return heights;
}

std::vector<double> random_square(std::int64_t n, std::mt19937& generator) {
    std::vector<double> square(static_cast<std::size_t>(n * n), 0.0);
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = i + 1; j < n; ++j)
            square[static_cast<std::size_t>(i * n + j)] =
                square[static_cast<std::size_t>(j * n + i)] =
                    std::uniform_real_distribution<double>(0, 1)(generator);
    return square;
}

}  // namespace

TEST_CASE("complete linkage has the heights of the definition") {
    ThreadPool pool(Context{3, nullptr});
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937 generator(seed);
        const std::int64_t n = 2 + static_cast<std::int64_t>(generator() % 70);
        std::vector<double> square = random_square(n, generator);
        const auto expected = naive_heights(square, n);
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        label_dendrogram(complete_linkage(MatrixView<double>(square.data(), n, n), pool), out);
        for (std::int64_t i = 0; i + 1 < n; ++i)
            CHECK(out(i, 2) == expected[static_cast<std::size_t>(i)]);
        CHECK(out(n - 2, 3) == static_cast<double>(n));
    }
}

TEST_CASE("the chain above the diagonal has the same heights") {
    ThreadPool pool(Context{1, nullptr});
    for (unsigned seed = 0; seed < 20; ++seed) {
        std::mt19937 generator(seed);
        const std::int64_t n = 2 + static_cast<std::int64_t>(generator() % 70);
        std::vector<double> square = random_square(n, generator);
        const auto expected = naive_heights(square, n);
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        const UpperRows<double> rows(MatrixView<double>(square.data(), n, n));
        label_dendrogram(chain_linkage(rows, pool), out);
        for (std::int64_t i = 0; i + 1 < n; ++i)
            CHECK(out(i, 2) == expected[static_cast<std::size_t>(i)]);
    }
}

TEST_CASE("lists, contraction and the square agree with the resident square, in every storage") {
    const std::int64_t n = 2500, dimensions = 5;  // more than are linked on a square at once
    std::mt19937 generator(7);
    std::normal_distribution<double> normal;  // no two distances are equal
    std::vector<double> vectors(static_cast<std::size_t>(n * dimensions));
    for (auto& value : vectors) value = normal(generator);
    const MatrixView<const double> rows(vectors.data(), n, dimensions);
    const auto link = [&](Storage storage, std::int64_t limit, int threads) {
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        linkage_of_vectors(rows, Metric::euclidean, storage, limit,
                           MatrixView<double>(dendrogram.data(), n - 1, 4),
                           Context{threads, nullptr});
        return dendrogram;
    };
    const auto expected = link(Storage::square, 0, 1);
    CHECK(link(Storage::triangle, 0, 2) == expected);
    CHECK(link(Storage::none, std::int64_t{1} << 30, 2) == expected);
    // With room for 1,500 clusters only, vectors are read once more.
    CHECK(link(Storage::none, 1500 * 1499 * 4, 2) == expected);
}

TEST_CASE("growing gaps and duplicates") {
    const std::int64_t n = 3000;
    for (const bool duplicates : {false, true}) {
        std::vector<float> condensed;
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j)
                condensed.push_back(duplicates ? 1.0F : static_cast<float>(j * j - i * i));
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        const auto report = linkage_overwriting(UpperRows<float>(condensed.data(), n), false, out,
                                                Context{2, nullptr});
        CHECK(out(n - 2, 2) == (duplicates ? 1.0 : static_cast<double>((n - 1) * (n - 1))));
        CHECK(report.levels[1] < n / 4);
    }
}

TEST_CASE("an impossible distance is refused by its place") {
    const std::int64_t n = 2200;
    for (const float value : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
        std::vector<float> condensed(static_cast<std::size_t>(n * (n - 1) / 2), 1.0F);
        const UpperRows<float> rows(condensed.data(), n);
        rows.at(1234, 2100) = value;
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        try {
            linkage_of_distances<float>(rows, false, 1 << 30, out, Context{1, nullptr});
            FAIL("not refused");
        } catch (const BadDistance& bad) {
            CHECK(bad.row == 1234);
            CHECK(bad.column == 2100);
        }
    }
}

TEST_CASE("a wrong dendrogram is refused") {
    std::vector<float> condensed(6);
    std::vector<double> dendrogram(8);
    CHECK_THROWS_AS(
        linkage_overwriting(UpperRows<float>(condensed.data(), 4), false,
                            MatrixView<double>(dendrogram.data(), 2, 4), Context{1, nullptr}),
        std::invalid_argument);
}
