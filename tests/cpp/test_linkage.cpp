#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "common/errors.hpp"
#include "linkage/linkage.hpp"

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

}  // namespace

TEST_CASE("complete linkage has the heights of the definition") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937 generator(seed);
        const std::int64_t n = 2 + static_cast<std::int64_t>(generator() % 70);
        std::vector<double> square(static_cast<std::size_t>(n * n), 0.0);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j)
                square[static_cast<std::size_t>(i * n + j)] =
                    square[static_cast<std::size_t>(j * n + i)] =
                        std::uniform_real_distribution<double>(0, 1)(generator);
        const auto expected = naive_heights(square, n);
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        label_dendrogram(
            complete_linkage(MatrixView<double>(square.data(), n, n), Context{3, nullptr}), out);
        for (std::int64_t i = 0; i + 1 < n; ++i)
            CHECK(out(i, 2) == expected[static_cast<std::size_t>(i)]);
        CHECK(out(n - 2, 3) == static_cast<double>(n));
    }
}

TEST_CASE("growing gaps and duplicates go through the chain") {
    const std::int64_t n = 400;
    for (const bool duplicates : {false, true}) {
        std::vector<float> condensed;
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j)
                condensed.push_back(duplicates ? 1.0F : static_cast<float>(j * j - i * i));
        std::vector<double> dendrogram(static_cast<std::size_t>((n - 1) * 4));
        const MatrixView<double> out(dendrogram.data(), n - 1, 4);
        linkage_of_condensed<float>(condensed, out, Context{2, nullptr});
        CHECK(out(n - 2, 2) == (duplicates ? 1.0 : static_cast<double>((n - 1) * (n - 1))));
    }
}

TEST_CASE("a wrong length is refused") {
    std::vector<float> condensed(4);
    std::vector<double> dendrogram(12);
    CHECK_THROWS_AS(
        linkage_of_condensed<float>(condensed, MatrixView<double>(dendrogram.data(), 3, 4),
                                    Context{1, nullptr}),
        std::invalid_argument);
}
