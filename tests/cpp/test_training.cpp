// The pixels that training works on, against plain loops over the definitions.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "training/training.hpp"

using namespace cliquesim;

namespace {

std::vector<std::uint8_t> random_frames(std::int64_t bytes) {
    std::mt19937 generator(3);
    std::vector<std::uint8_t> frames(static_cast<std::size_t>(bytes));
    for (auto& value : frames) value = static_cast<std::uint8_t>(generator() % 256);
    return frames;
}

}  // namespace

TEST_CASE("augment: a frame that is moved by whole pixels repeats its border") {
    const std::int64_t height = 5, width = 19;
    const auto frames = random_frames(height * width * 3);
    // Two pixels to the right, one down, mirrored.
    const std::array<float, 6> affine{-1, 0, 2 * 2.0F / width, 0, 1, 2 * 1.0F / height};
    training::Changes only_moved;
    only_moved.affine = affine;
    std::vector<float> images(frames.size());
    training::augment({frames.data(), 1, height, width}, only_moved, images.data(), {1});
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            for (std::int64_t c = 0; c < 3; ++c) {
                const std::int64_t from_x =
                    std::clamp<std::int64_t>(width - 1 - x + 2, 0, width - 1);
                const std::int64_t from_y = std::min(y + 1, height - 1);
                const auto expected =
                    frames[static_cast<std::size_t>((from_y * width + from_x) * 3 + c)];
                const float found = images[static_cast<std::size_t>((c * height + y) * width + x)];
                CHECK(found == doctest::Approx(expected / 255.0).epsilon(1e-4));
            }
}

TEST_CASE("augment: surroundings are the other frame's, erased is the mean") {
    const std::int64_t side = 8, size = side * side;
    std::vector<std::uint8_t> frames(static_cast<std::size_t>(2 * size * 3), 51);
    std::fill(frames.begin() + size * 3, frames.end(), std::uint8_t{255});
    const std::array<std::int64_t, 2> others{1, 0};
    // A hard edge: the middle half of the first frame, and all of the second.
    const std::array<float, 4> ellipse{0.5F, 1e9F, 9.0F, 9.0F};
    const std::array<float, 8> erase{2, -2, 2, -2, -1, 1, -1, 1};
    training::Changes changes;
    changes.others = others;
    changes.ellipse = ellipse;
    changes.erase = erase;
    std::vector<float> images(frames.size());
    for (const int threads : {1, 2}) {
        training::augment({frames.data(), 2, side, side}, changes, images.data(), {threads});
        for (std::int64_t x = 0; x < side; ++x) {
            CHECK(images[static_cast<std::size_t>(x)] ==
                  doctest::Approx(x >= 2 && x < 6 ? 0.2 : 1.0));
            CHECK(images[static_cast<std::size_t>(3 * size + x)] == doctest::Approx(1.0));
        }
    }
    const std::array<std::int64_t, 2> outside{2, 0};
    changes.others = outside;
    CHECK_THROWS_AS(training::augment({frames.data(), 2, side, side}, changes, images.data(), {1}),
                    std::exception);
}

TEST_CASE("gradient_channels: the definition, pixel by pixel") {
    const std::int64_t height = 7, width = 21, pixels = height * width;
    std::mt19937 generator(5);
    std::uniform_real_distribution<float> uniform(0, 1);
    std::vector<float> images(static_cast<std::size_t>(2 * pixels * 3));
    for (auto& value : images) value = uniform(generator);
    std::vector<float> rows(2 * height), columns(2 * width);
    for (auto* weights : {&rows, &columns})
        for (auto& value : *weights) value = uniform(generator);
    std::vector<float> channels(images.size());
    training::gradient_channels({images.data(), 2, height, width}, {5, 0.02F}, rows, columns,
                                channels.data(), {2});

    const auto pixel = [&](std::int64_t n, std::int64_t c, std::int64_t y, std::int64_t x) {
        y = std::clamp<std::int64_t>(y, 0, height - 1);
        x = std::clamp<std::int64_t>(x, 0, width - 1);
        return static_cast<double>(
            images[static_cast<std::size_t>(((n * 3 + c) * height + y) * width + x)]);
    };
    const auto gradient = [&](std::int64_t n, std::int64_t y, std::int64_t x) {
        std::array<double, 3> best{0, 0, -1};
        for (int c = 0; c < 3; ++c) {
            const double dx = (pixel(n, c, y, x + 1) - pixel(n, c, y, x - 1)) / 2;
            const double dy = (pixel(n, c, y + 1, x) - pixel(n, c, y - 1, x)) / 2;
            if (dx * dx + dy * dy > best[2]) best = {dx, dy, dx * dx + dy * dy};
        }
        return best;
    };
    for (std::int64_t n = 0; n < 2; ++n)
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x) {
                double energy = 0;
                int count = 0;
                for (std::int64_t v = std::max<std::int64_t>(0, y - 2);
                     v <= std::min(height - 1, y + 2); ++v)
                    for (std::int64_t u = std::max<std::int64_t>(0, x - 2);
                         u <= std::min(width - 1, x + 2); ++u, ++count)
                        energy += gradient(n, v, u)[2];
                const auto [dx, dy, square] = gradient(n, y, x);
                const double scale =
                    static_cast<double>(rows[static_cast<std::size_t>(n * height + y)]) *
                    static_cast<double>(columns[static_cast<std::size_t>(n * width + x)]) /
                    std::sqrt(energy / count + 0.0004);
                const double m = std::sqrt(square);
                const float* found = channels.data() + ((n * height + y) * width + x) * 3;
                CHECK(found[0] == doctest::Approx(m * scale).epsilon(1e-4));
                CHECK(found[1] == doctest::Approx((dx * dx - dy * dy) / m * scale).epsilon(1e-3));
                CHECK(found[2] == doctest::Approx(2 * dx * dy / m * scale).epsilon(1e-3));
            }
    CHECK_THROWS_AS(training::gradient_channels({images.data(), 2, height, width}, {4, 0.02F}, {},
                                                {}, channels.data(), {1}),
                    std::exception);
}

TEST_CASE("normalise_and_rectify: batch norm and ReLU, and their gradients, by plain loops") {
    // Channels in blocks of 32 and 8 and singly; rows in more than one chunk.
    const std::int64_t count = 1000, channels = 43;
    std::mt19937 generator(5);
    std::normal_distribution<float> normal;
    const auto draw = [&](std::int64_t n) {
        std::vector<float> values(static_cast<std::size_t>(n));
        for (float& value : values) value = normal(generator);
        return values;
    };
    auto x = draw(count * channels);
    for (float& value : x) value = 3 * value + 40;  // far from 0
    const auto dy = draw(count * channels), weight = draw(channels), bias = draw(channels);
    const MatrixView<const float> rows{x.data(), count, channels};
    const training::Normalisation norm{weight, bias, 1e-3F};
    const auto at = [&](std::int64_t r, std::int64_t c) {
        return static_cast<std::size_t>(r * channels + c);
    };
    std::vector<float> y(x.size()), dx(x.size());
    auto mean = draw(channels), variance = mean, dweight = mean, dbias = mean;
    const auto run = [&](int threads) {
        training::normalise_and_rectify(rows, norm, y.data(), mean.data(), variance.data(),
                                        {threads});
        training::normalise_and_rectify_gradient(rows, dy.data(), norm, mean.data(),
                                                 variance.data(), dx.data(), dweight.data(),
                                                 dbias.data(), {threads});
    };
    run(1);
    const auto y_of_one = y, dx_of_one = dx, dweight_of_one = dweight;
    run(3);
    CHECK(y == y_of_one);
    CHECK(dx == dx_of_one);
    CHECK(dweight == dweight_of_one);
    for (std::int64_t c = 0; c < channels; ++c) {
        double middle = 0, square = 0, plain = 0, weighted = 0;
        for (std::int64_t r = 0; r < count; ++r) middle += x[at(r, c)] / double{count};
        for (std::int64_t r = 0; r < count; ++r)
            square += (x[at(r, c)] - middle) * (x[at(r, c)] - middle) / double{count};
        const auto k = static_cast<std::size_t>(c);
        CHECK(mean[k] == doctest::Approx(middle));
        CHECK(variance[k] == doctest::Approx(square));
        const double deviation = std::sqrt(square + 1e-3F);
        const auto normalised = [&](std::int64_t r) { return (x[at(r, c)] - middle) / deviation; };
        const auto before_relu = [&](std::int64_t r) {
            return normalised(r) * weight[k] + bias[k];
        };
        const auto passed = [&](std::int64_t r) {
            return before_relu(r) > 0 ? static_cast<double>(dy[at(r, c)]) : 0.0;
        };
        for (std::int64_t r = 0; r < count; ++r) {
            plain += passed(r);
            weighted += passed(r) * normalised(r);
        }
        CHECK(dbias[k] == doctest::Approx(plain).epsilon(1e-3));
        CHECK(dweight[k] == doctest::Approx(weighted).epsilon(1e-3));
        for (std::int64_t r = 0; r < count; r += 7) {
            CHECK(std::abs(y[at(r, c)] - std::max(0.0, before_relu(r))) < 1e-4);
            const double expected = weight[k] / deviation *
                                    (passed(r) - plain / count - normalised(r) * weighted / count);
            CHECK(std::abs(dx[at(r, c)] - expected) < 1e-4);
        }
    }
    CHECK_THROWS_AS(
        training::normalise_and_rectify(MatrixView<const float>{x.data(), 0, channels}, norm,
                                        y.data(), mean.data(), variance.data(), {1}),
        std::exception);
}
