// The CUDA kernels of the network, every thread of every block in turn on the host, against plain
// loops in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "grid_on_host.hpp"
#include "training/adagrad.hpp"
#include "training/response_norm.hpp"

using namespace cliquesim;
using test::every_thread;
using test::size_of;
using test::worse;
using training::ResponseNorm;

namespace {

template <typename T>
std::vector<Four<T>> random_fours(std::int64_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 20);
    std::vector<Four<T>> fours(size_of(count));
    for (auto& four : fours)
        for (auto& value : four.values) value = from_float<T>(normal(random));
    return fours;
}

template <typename T>
std::vector<double> plain(const std::vector<Four<T>>& fours) {
    std::vector<double> values;
    for (const auto& four : fours)
        for (const auto& value : four.values)
            values.push_back(static_cast<double>(to_float(value)));
    return values;
}

template <typename T>
std::vector<Four<T>> run_norm(const ResponseNorm& norm, const std::vector<Four<T>>& x,
                              int threads) {
    std::vector<Four<T>> y(x.size());
    const auto buffer = std::make_unique<training::NormBuffer>();
    std::memset(static_cast<void*>(buffer.get()), 0xFF, sizeof *buffer);
    every_thread(threads, [&](int t) { training::clear_margins(norm, t, threads, buffer->x); });
    for (std::int64_t tile = 0; tile < norm.tiles(); ++tile) {
        every_thread(threads, [&](int t) {
            training::load_norm_tile(norm, x.data(), tile, t, threads, buffer->x);
        });
        every_thread(threads, [&](int t) {
            training::write_normalised(norm, y.data(), tile, t, threads, *buffer);
        });
    }
    return y;
}

template <typename T>
std::vector<Four<T>> run_gradient(const ResponseNorm& norm, const std::vector<Four<T>>& x,
                                  const std::vector<Four<T>>& dy, int threads) {
    std::vector<Four<T>> dx(x.size());
    const auto buffer = std::make_unique<training::NormGradientBuffer>();
    std::memset(static_cast<void*>(buffer.get()), 0xFF, sizeof *buffer);
    every_thread(threads, [&](int t) { training::clear_margins(norm, t, threads, buffer->x); });
    every_thread(threads,
                 [&](int t) { training::clear_margins(norm, t, threads, buffer->shared); });
    for (std::int64_t tile = 0; tile < norm.tiles(); ++tile) {
        every_thread(threads, [&](int t) {
            training::load_norm_tile(norm, x.data(), tile, t, threads, buffer->x);
        });
        every_thread(threads, [&](int t) {
            training::measure_shared(norm, dy.data(), tile, t, threads, *buffer);
        });
        every_thread(threads, [&](int t) {
            training::write_norm_gradient(norm, dx.data(), tile, t, threads, *buffer);
        });
    }
    return dx;
}

// y of one pixel's channels.
std::vector<double> normalised(const ResponseNorm& norm, const double* given) {
    std::vector<double> x(given, given + norm.channels), y(x.size());
    if (norm.rectifies)
        for (double& value : x) value = std::max(value, 0.0);
    for (int c = 0; c < norm.channels; ++c) {
        double squares = 0;
        for (int j = std::max(c - 2, 0); j <= std::min(c + 2, norm.channels - 1); ++j)
            squares += x[size_of(j)] * x[size_of(j)];
        y[size_of(c)] =
            x[c] * std::pow(static_cast<double>(norm.k) + static_cast<double>(norm.share) * squares,
                            -static_cast<double>(norm.beta));
    }
    return y;
}

template <typename T>
void compare(std::int64_t pixels, std::int32_t channels, double tolerance, bool rectifies = false) {
    const ResponseNorm norm{pixels, channels, 2e-3F, 0.75F, 1.5F, rectifies};
    const auto x = random_fours<T>(pixels * channels / 4, 1);
    const auto dy = random_fours<T>(pixels * channels / 4, 2);
    const auto y = plain(run_norm(norm, x, 96)), dx = plain(run_gradient(norm, x, dy, 96));
    auto input = plain(x);
    const auto above = plain(dy);
    double worst = 0, worst_gradient = 0;
    for (std::int64_t p = 0; p < pixels; ++p) {
        double* row = input.data() + p * channels;
        const auto expected = normalised(norm, row);
        for (int c = 0; c < channels; ++c) {
            worst = worse(worst, std::abs(expected[size_of(c)] - y[size_of(p * channels + c)]));
            // Of the sum of dy y, by central differences.
            const double kept = row[c], step = 1e-4;
            double slope = 0;
            for (const double sign : {1.0, -1.0}) {
                row[c] = kept + sign * step;
                const auto moved = normalised(norm, row);
                for (int j = std::max(c - 2, 0); j <= std::min(c + 2, channels - 1); ++j)
                    slope += sign * moved[size_of(j)] * above[size_of(p * channels + j)];
            }
            row[c] = kept;
            worst_gradient =
                worse(worst_gradient, std::abs(slope / (2 * step) - dx[size_of(p * channels + c)]));
        }
    }
    INFO(pixels, " pixels of ", channels);
    CHECK(worst <= tolerance);
    CHECK(worst_gradient <= tolerance);
}

}  // namespace

TEST_CASE("the CUDA kernels of response normalisation, run thread by thread, equal the formula") {
    compare<float>(50, 96, 5e-5);
    compare<float>(50, 96, 5e-5, true);
    compare<float>(19, 256, 5e-5);
    compare<float>(430, 4, 5e-5);
    compare<float>(1, 8, 5e-5);
    compare<float>(2, training::largest_channels, 5e-5);
    compare<Bfloat16>(50, 96, 0.15, true);
    compare<Bfloat16>(50, 96, 0.15);  // of numbers up to 80
}

TEST_CASE("the CUDA kernel of AdaGrad equals the formula, whatever the tensors' number and place") {
    std::vector<std::int64_t> sizes(100, 5);
    sizes[3] = 3 * training::adagrad_chunk + 7;
    sizes[66] = training::adagrad_chunk;
    sizes[70] = 0;
    std::int64_t total = 0;
    for (const std::int64_t size : sizes) total += size + 1;
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> weights(size_of(total)), gradient(weights.size()), sums(weights.size());
    for (auto& value : weights) value = normal(random);
    for (auto& value : gradient) value = normal(random);
    for (auto& value : sums) value = std::abs(normal(random));
    // No gradient at the start of half of the tensors, those that decay and others.
    std::int64_t first = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (i % 4 < 2) std::fill_n(gradient.begin() + first, sizes[i], 0.0F);
        first += sizes[i] + 1;
    }
    auto expected = weights, expected_sums = sums;
    std::vector<training::AdagradTensor> tensors;
    std::int64_t start = 0;
    int aligned = 0;
    for (const std::int64_t size : sizes) {
        const float decay = tensors.size() % 2 == 0 ? 0.01F : 0.0F;
        tensors.push_back(
            {weights.data() + start, gradient.data() + start, sums.data() + start, size, decay});
        aligned += training::takes_fours(tensors.back()) ? 1 : 0;
        for (std::int64_t i = start; i < start + size; ++i) {
            const double slope =
                static_cast<double>(gradient[size_of(i)]) +
                static_cast<double>(decay) * static_cast<double>(weights[size_of(i)]);
            const double sum = static_cast<double>(sums[size_of(i)]) + slope * slope;
            expected_sums[size_of(i)] = static_cast<float>(sum);
            expected[size_of(i)] = static_cast<float>(static_cast<double>(weights[size_of(i)]) -
                                                      0.1 * slope / (std::sqrt(sum) + 1e-4));
        }
        start += size + 1;  // the number between two tensors stays
    }
    REQUIRE(aligned > 0);
    REQUIRE(aligned < 100);
    const float rate = 0.1F;
    const auto launches = training::adagrad_launches(tensors, &rate, 1e-4F);
    REQUIRE(launches.size() == 2);
    for (const auto& launch : launches)
        for (std::int64_t chunk = 0; chunk < launch.chunks(); ++chunk)
            every_thread(32, [&](int t) { training::adagrad_thread(launch, chunk, t, 32); });
    double worst = 0;
    for (std::size_t i = 0; i < weights.size(); ++i)
        for (const float one : {weights[i] - expected[i], sums[i] - expected_sums[i]})
            worst = worse(worst, std::abs(static_cast<double>(one)));
    CHECK(worst <= 2e-6);
    CHECK(training::adagrad_launches({}, &rate, 1e-4F).empty());
}

TEST_CASE("bfloat16 rounds to the nearest, the even one at ties") {
    const auto rounded = [](float value) { return to_float(from_float<Bfloat16>(value)); };
    CHECK(rounded(1.0F) == 1.0F);
    CHECK(rounded(-3.140625F) == -3.140625F);
    CHECK(rounded(1.0F + 1.0F / 256) == 1.0F);               // tie: 1 is even
    CHECK(rounded(1.0F + 3.0F / 256) == 1.0F + 4.0F / 256);  // tie, upwards
    CHECK(rounded(1.0F + 1.1F / 256) == 1.0F + 2.0F / 256);
    CHECK(std::isnan(rounded(std::nanf(""))));
    CHECK(std::isinf(rounded(INFINITY)));
}
