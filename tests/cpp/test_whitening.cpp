#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "whitening/whitening.hpp"

using namespace cliquesim;

namespace {

std::vector<double> positive_definite(std::int64_t n, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    const auto size = static_cast<std::size_t>(n);
    std::vector<double> b(size * size), a(size * size);
    for (double& value : b) value = normal(generator);
    for (std::size_t i = 0; i < size; ++i)
        for (std::size_t j = 0; j < size; ++j)
            for (std::size_t k = 0; k < size; ++k)
                a[i * size + j] += b[i * size + k] * b[j * size + k];
    for (std::size_t i = 0; i < size; ++i) a[i * size + i] += 1;
    return a;
}

}  // namespace

TEST_CASE("L L^T gives the matrix back, whatever the block boundaries") {
    for (const std::int64_t n : {1, 127, 128, 130, 300}) {
        const auto a = positive_definite(n, 3);
        auto factor = a;
        REQUIRE(whitening::cholesky({factor.data(), n, n}, Context{2, nullptr}));
        const MatrixView<double> l(factor.data(), n, n);
        double worst = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j <= i; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k <= j; ++k) sum += l(i, k) * l(j, k);
                worst = std::max(worst, std::abs(sum - a[static_cast<std::size_t>(i * n + j)]));
            }
        }
        CHECK(worst < 1e-9 * static_cast<double>(n));
    }
}

TEST_CASE("a matrix that is not positive definite is reported") {
    auto a = positive_definite(200, 4);
    a[150 * 200 + 150] = -1;
    CHECK_FALSE(whitening::cholesky({a.data(), 200, 200}, Context{1, nullptr}));
}

TEST_CASE("moments of shapes that do not fit are refused") {
    std::vector<float> x(12), shift(4);
    std::vector<double> sum(3), scatter(16);
    CHECK_THROWS_AS(whitening::add_moments({x.data(), 3, 4}, shift, sum, {scatter.data(), 4, 4},
                                           Context{1, nullptr}),
                    std::invalid_argument);
}

TEST_CASE("odd shapes stay within their matrices") {
    std::mt19937 generator(5);
    std::normal_distribution<float> normal;
    for (const auto& [n, d, k] : {std::array{1, 1, 1}, std::array{15, 33, 65},
                                  std::array{113, 241, 31}, std::array{1030, 17, 17}}) {
        const auto size = [](int rows, int cols) { return static_cast<std::size_t>(rows * cols); };
        std::vector<float> x(size(n, d)), mean(size(1, d)), p(size(d, k)), out(size(n, k));
        for (float& value : x) value = normal(generator);
        for (float& value : p) value = normal(generator);
        REQUIRE(whitening::project({x.data(), n, d}, mean, {p.data(), d, k}, {out.data(), n, k},
                                   Context{2, nullptr}) == -1);
        std::vector<double> sum(size(1, d)), scatter(size(d, d));
        REQUIRE(whitening::add_moments({x.data(), n, d}, mean, sum, {scatter.data(), d, d},
                                       Context{2, nullptr}) == -1);
        double expected = 0, last = 0;
        for (int i = 0; i < n; ++i) last += static_cast<double>(x[size(i, d) + size(1, d) - 1]);
        for (int j = 0; j < d; ++j)
            expected += static_cast<double>(x[size(n - 1, d) + size(1, j)]) *
                        static_cast<double>(p[size(j, k) + size(1, k) - 1]);
        CHECK(out.back() == doctest::Approx(expected).epsilon(1e-4));
        CHECK(sum.back() == doctest::Approx(last).epsilon(1e-4));
    }
}
