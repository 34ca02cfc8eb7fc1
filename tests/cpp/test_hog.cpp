#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <stdexcept>
#include <vector>

#include "hog/gradients.hpp"
#include "hog/hog.hpp"

#if __has_include(<dlib/image_transforms/fhog.h>)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <dlib/image_transforms/fhog.h>
#pragma GCC diagnostic pop
#define CLIQUESIM_HAVE_DLIB 1
#endif

using namespace cliquesim;

TEST_CASE("orientation bins of all gradients are the nearest multiples of 20 degrees") {
    for (int dy = -255; dy <= 255; ++dy) {
        for (int dx = -255; dx <= 255; ++dx) {
            if (dx == 0 && dy == 0) continue;
            const long double angle =
                std::atan2(static_cast<long double>(dy), static_cast<long double>(dx)) * 180 /
                std::numbers::pi_v<long double>;
            int expected = (static_cast<int>(std::floor(angle / 20 + 0.5L)) + 18) % 18;
            if (dx == 0) expected = dy > 0 ? 4 : 13;  // ties: the first bin of voc-release's search
            const int bin =
                hog::orientation_bin(static_cast<std::int16_t>(dx), static_cast<std::int16_t>(dy));
            REQUIRE(bin == expected);
        }
    }
}

TEST_CASE("cells_along rounds halves up") {
    CHECK(hog::cells_along(20, 8) == 3);
    CHECK(hog::cells_along(19, 8) == 2);
    CHECK(hog::cells_along(128, 8) == 16);
    CHECK(hog::cells_along(7, 3) == 2);
    CHECK(hog::cells_along(8, 3) == 3);
}

TEST_CASE("frames of fewer than three cells are refused") {
    const std::vector<std::uint8_t> pixels(19 * 64);
    float unused = 0;
    CHECK_THROWS_AS(hog::describe({pixels.data(), 1, 19, 64, 1}, 8, &unused, Context{1, nullptr}),
                    std::invalid_argument);
}

TEST_CASE("nothing outside the frames and the features is touched") {
    for (const int channels : {1, 3}) {
        for (int width = 5; width < 140; width += width % 3 + 1) {
            const std::int64_t height = 6, cell = 2;
            const std::vector<std::uint8_t> pixels(
                static_cast<std::size_t>(2 * height * width * channels), 9);
            const std::int64_t rows = hog::cells_along(height, cell) - 2,
                               cols = hog::cells_along(width, cell) - 2;
            std::vector<float> features(
                static_cast<std::size_t>(2 * rows * cols * hog::num_channels), -1);
            hog::describe({pixels.data(), 2, height, width, channels}, cell, features.data(),
                          Context{1, nullptr});
            CHECK(std::ranges::all_of(features, [](float value) { return value == 0; }));
        }
    }
}

#ifdef CLIQUESIM_HAVE_DLIB
TEST_CASE("all 31 channels agree with dlib on grey frames") {
    std::mt19937 generator(7);
    for (const auto& [height, width] : {std::pair{64, 96}, std::pair{40, 128}, std::pair{24, 24}}) {
        dlib::array2d<unsigned char> image(height, width);
        std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width));
        for (int y = 0; y < height; ++y) {
            for (int x = 0; x < width; ++x) {
                const double wave = 90 * std::sin(0.2 * x + 0.13 * y) + 127;
                const auto value = static_cast<std::uint8_t>(wave + generator() % 30);
                image[y][x] = pixels[static_cast<std::size_t>(y * width + x)] = value;
            }
        }
        dlib::array2d<dlib::matrix<float, 31, 1>> theirs;
        dlib::extract_fhog_features(image, theirs, 8);
        const std::int64_t rows = height / 8 - 2, cols = width / 8 - 2;
        std::vector<float> ours(static_cast<std::size_t>(rows * cols * hog::num_channels));
        hog::describe({pixels.data(), 1, height, width, 1}, 8, ours.data(), Context{1, nullptr});
        REQUIRE(theirs.nr() == rows);
        REQUIRE(theirs.nc() == cols);
        double worst = 0;
        for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < cols; ++j)
                for (int c = 0; c < hog::num_channels; ++c)
                    worst = std::max(worst,
                                     std::abs(static_cast<double>(
                                         ours[static_cast<std::size_t>(((i * cols) + j) * 31 + c)] -
                                         theirs[i][j](c))));
        CHECK(worst < 1e-6);
    }
}
#endif
