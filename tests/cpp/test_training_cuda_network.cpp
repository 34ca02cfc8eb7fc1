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
#include "training/activation_forward.hpp"
#include "training/activation_gradient.hpp"
#include "training/adagrad.hpp"

using namespace cliquesim;
using test::every_thread;
using test::size_of;
using test::worse;
using training::Activation;

namespace {

// Eight neighbours, aligned as the kernels read them.
template <typename T>
struct alignas(8 * sizeof(T)) Piece {
    T values[8];
};

template <typename T>
std::vector<Piece<T>> random_pieces(std::int64_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 20);
    std::vector<Piece<T>> pieces(size_of(count / 8));
    for (auto& piece : pieces)
        for (auto& value : piece.values) value = from_float<T>(normal(random));
    return pieces;
}

template <typename T>
T* start_of(std::vector<Piece<T>>& pieces) {
    return pieces.empty() ? nullptr : pieces.front().values;
}

template <typename T>
std::vector<double> plain(const std::vector<Piece<T>>& pieces) {
    std::vector<double> values;
    for (const auto& piece : pieces)
        for (const auto& value : piece.values)
            values.push_back(static_cast<double>(to_float(value)));
    return values;
}

template <typename T>
struct Tensors {
    std::vector<Piece<T>> x, bias, y, dy, dx;
    std::vector<Piece<std::uint8_t>> places;
    std::vector<float> bias_gradient;
};

std::int64_t outputs(const Activation& one) {
    const std::int64_t pixels =
        one.pools ? one.count * one.pooled_height() * one.pooled_width() : one.pixels();
    return pixels * one.channels;
}

// The pieces of all pixels' channels as one tensor, or as two with half of the channels each.
template <typename T>
struct Parts {
    std::vector<Piece<T>> parts[2];
    std::int32_t octets;

    Parts(const std::vector<Piece<T>>& all, std::int32_t total, bool halves)
        : octets(halves ? total / 2 : total) {
        for (std::size_t i = 0; i < all.size(); ++i)
            parts[i % size_of(total) < size_of(octets) ? 0 : 1].push_back(all[i]);
    }
    std::vector<Piece<T>> joined() const {
        std::vector<Piece<T>> all;
        for (std::size_t i = 0; i < parts[0].size(); i += size_of(octets))
            for (const auto& part : parts)
                if (!part.empty()) all.insert(all.end(), &part[i], &part[i] + octets);
        return all;
    }
    training::Channels<T> channels() {
        return {{start_of(parts[0]), start_of(parts[1])}, 8 * octets};
    }
    training::Channels<const T> read_only() {
        return {{start_of(parts[0]), start_of(parts[1])}, 8 * octets};
    }
};

// Of each run of a block one thread, which does all lanes' work; and one of idle lanes.
template <typename Phase>
void every_lanes(const Activation& one, Phase&& phase) {
    std::vector<bool> seen(size_of(one.block_runs()));
    bool idle = false;
    every_thread(training::activation_threads, [&](int thread) {
        const training::RunLanes mine = one.lanes_of(thread);
        if (mine.lanes.active && mine.lanes.own == 0) {
            REQUIRE(mine.lanes.first == thread);
            REQUIRE(one.first_thread(mine.run) == thread);
            seen[size_of(mine.run)] = true;
        } else if (mine.lanes.active || idle) {
            return;
        } else {
            idle = true;
        }
        phase(mine);
    });
    REQUIRE(std::find(seen.begin(), seen.end(), false) == seen.end());
}

template <training::Norm norm, bool pools, int wide, typename T>
void run_blocks(const Activation& one, Tensors<T>& tensors, std::int64_t blocks, bool halves) {
    const std::int32_t octets = one.channels / 8;
    Parts<T> x(tensors.x, octets, !halves && octets % 2 == 0), dx(tensors.dx, octets, halves);
    Parts<T> y(tensors.y, octets, halves), dy(tensors.dy, octets, halves);
    const training::ActivationForward<T> forward{x.read_only(), start_of(tensors.bias),
                                                 y.channels(), start_of(tensors.places)};
    for (std::int64_t block = 0; block < blocks; ++block)
        every_lanes(one, [&](const training::RunLanes& mine) {
            training::activate_lanes<norm, pools, wide>(one, forward, block, blocks, mine);
        });
    std::vector<float> sums(size_of(blocks * one.channels));
    const training::ActivationBackward<T> backward{x.read_only(),  start_of(tensors.bias),
                                                   dy.read_only(), start_of(tensors.places),
                                                   dx.channels(),  sums.data()};
    const auto buffer = std::make_unique<training::BiasBuffer<wide>>();
    for (std::int64_t block = 0; block < blocks; ++block) {
        std::memset(static_cast<void*>(buffer.get()), 0xFF, sizeof *buffer);
        every_lanes(one, [&](const training::RunLanes& mine) {
            training::gradient_lanes<norm, pools>(one, backward, block, blocks, mine, *buffer);
        });
        every_thread(training::activation_threads, [&](int t) {
            training::add_bias_sums(one, block, t, *buffer, backward.bias_sums);
        });
    }
    tensors.y = y.joined();
    tensors.dx = dx.joined();
    tensors.bias_gradient.resize(size_of(one.channels));
    std::vector<Bfloat16> rounded(size_of(one.channels));
    for (const bool rounds : {false, true}) {
        void* gradient = tensors.bias_gradient.data();
        if (rounds) gradient = rounded.data();
        const training::BiasTotal total{sums.data(), blocks, one.channels, gradient, rounds};
        const auto totals = std::make_unique<training::TotalBuffer>();
        for (std::int32_t block = 0; block < total.blocks(); ++block) {
            every_thread(training::total_threads,
                         [&](int t) { training::add_rows(total, block, t, *totals); });
            every_thread(training::total_threads,
                         [&](int t) { training::write_total(total, block, t, *totals); });
        }
    }
    for (std::size_t c = 0; c < rounded.size(); ++c)
        REQUIRE(rounded[c].bits == from_float<Bfloat16>(tensors.bias_gradient[c]).bits);
}

template <training::Norm norm, typename T>
void run_norm(const Activation& one, Tensors<T>& tensors, std::int64_t blocks, bool halves) {
    const auto with = [&](auto pools) {
        if constexpr (norm != training::Norm::none)
            if (one.lane_channels() == 12)
                return run_blocks<norm, pools.value, 12>(one, tensors, blocks, halves);
        run_blocks<norm, pools.value, 8>(one, tensors, blocks, halves);
    };
    one.pools ? with(std::true_type{}) : with(std::false_type{});
}

template <typename T>
Tensors<T> run(const Activation& one, bool biased, std::int64_t blocks) {
    const std::int64_t inputs = one.pixels() * one.channels;
    Tensors<T> tensors{random_pieces<T>(inputs, 1),
                       {},
                       random_pieces<T>(outputs(one), 4),
                       random_pieces<T>(outputs(one), 2),
                       random_pieces<T>(inputs, 5),
                       {},
                       {}};
    if (biased) tensors.bias = random_pieces<T>(one.channels, 3);
    if (one.pools) tensors.places.resize(size_of(outputs(one) / 8));
    const bool halves = one.channels % 32 == 0;
    switch (one.norm()) {
        case training::Norm::none:
            run_norm<training::Norm::none>(one, tensors, blocks, halves);
            break;
        case training::Norm::three_quarters:
            run_norm<training::Norm::three_quarters>(one, tensors, blocks, halves);
            break;
        case training::Norm::any:
            run_norm<training::Norm::any>(one, tensors, blocks, halves);
    }
    return tensors;
}

// y of one pixel's channels, without pooling.
std::vector<double> evaluated(const Activation& one, const double* x,
                              const std::vector<double>& bias) {
    std::vector<double> v(x, x + one.channels);
    for (int c = 0; c < one.channels; ++c) {
        if (!bias.empty()) v[size_of(c)] += bias[size_of(c)];
        if (one.rectifies) v[size_of(c)] = std::max(v[size_of(c)], 0.0);
    }
    auto y = v;
    if (!one.normalises) return y;
    for (int c = 0; c < one.channels; ++c) {
        double squares = 0;
        for (int j = std::max(c - 2, 0); j <= std::min(c + 2, one.channels - 1); ++j)
            squares += v[size_of(j)] * v[size_of(j)];
        y[size_of(c)] *=
            std::pow(static_cast<double>(one.k) + static_cast<double>(one.share) * squares,
                     -static_cast<double>(one.beta));
    }
    return y;
}

struct Pooled {
    std::vector<double> y, dy;  // pooled y; dy of every pixel
};

// `y` of all pixels to that of windows, and `above` back to the pixels.
Pooled pooled(const Activation& one, const std::vector<double>& y,
              const std::vector<double>& above) {
    Pooled result{{}, std::vector<double>(y.size())};
    for (std::int64_t i = 0; i < outputs(one); ++i) {
        const std::int64_t c = i % one.channels, at = i / one.channels;
        const std::int64_t column = at % one.pooled_width(), line = at / one.pooled_width();
        const std::int64_t row = line % one.pooled_height(), image = line / one.pooled_height();
        std::size_t largest = 0;
        for (int place = 0; place < 9; ++place) {
            const std::int64_t pixel =
                (image * one.height + 2 * row + place / 3) * one.width + 2 * column + place % 3;
            const std::size_t candidate = size_of(pixel * one.channels + c);
            if (place == 0 || y[candidate] > y[largest]) largest = candidate;
        }
        result.y.push_back(y[largest]);
        result.dy[largest] += above[size_of(i)];
    }
    return result;
}

template <typename T>
void compare(const Activation& one, bool biased, double tolerance, std::int64_t blocks = 3) {
    const Tensors<T> tensors = run<T>(one, biased, blocks);
    const std::int32_t channels = one.channels;
    auto x = plain(tensors.x);
    const auto bias = plain(tensors.bias);
    std::vector<double> y;
    for (std::int64_t p = 0; p < one.pixels(); ++p)
        for (const double value : evaluated(one, x.data() + p * channels, bias)) y.push_back(value);
    if (one.pools)  // what windows compare is rounded
        for (double& value : y)
            value = static_cast<double>(to_float(from_float<T>(static_cast<float>(value))));
    const auto above = plain(tensors.dy);
    const Pooled expected = one.pools ? pooled(one, y, above) : Pooled{y, above};
    const auto found = plain(tensors.y), dx = plain(tensors.dx);
    double worst = 0, worst_gradient = 0, worst_bias = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
        worst = worse(worst, std::abs(expected.y[i] - found[i]));
    std::vector<double> of_bias(size_of(channels));
    for (std::int64_t p = 0; p < one.pixels(); ++p) {
        double* row = x.data() + p * channels;
        for (int c = 0; c < channels; ++c) {
            // Of the sum of dy y, by central differences.
            const double kept = row[c], step = 1e-4;
            double slope = 0;
            for (const double sign : {1.0, -1.0}) {
                row[c] = kept + sign * step;
                const auto moved = evaluated(one, row, bias);
                for (int j = std::max(c - 2, 0); j <= std::min(c + 2, channels - 1); ++j)
                    slope += sign * moved[size_of(j)] * expected.dy[size_of(p * channels + j)];
            }
            row[c] = kept;
            const double offset = bias.empty() ? 0 : bias[size_of(c)];
            slope = one.rectifies && kept + offset == 0 ? 0 : slope / (2 * step);
            of_bias[size_of(c)] += slope;
            worst_gradient = worse(worst_gradient, std::abs(slope - dx[size_of(p * channels + c)]));
        }
    }
    for (int c = 0; c < channels; ++c) {
        const auto sum = static_cast<double>(tensors.bias_gradient[size_of(c)]);
        worst_bias = worse(worst_bias, std::abs(sum - of_bias[size_of(c)]));
    }
    INFO(one.count, " x ", one.height, " x ", one.width, " x ", channels, ", ", one.normalises,
         one.pools);
    CHECK(worst <= tolerance);
    CHECK(worst_gradient <= tolerance);
    CHECK(worst_bias <= 50 * tolerance);
}

}  // namespace

TEST_CASE("the CUDA kernels after a convolution, run thread by thread, equal the formula") {
    for (const bool normalises : {true, false})
        for (const bool pools : {true, false}) {
            const auto one = [&](std::int64_t n, std::int32_t height, std::int32_t width,
                                 std::int32_t channels, bool rectifies = true, float beta = 0.75F) {
                return Activation{n,          height, width, channels, rectifies,
                                  normalises, pools,  2e-3F, beta,     1.5F};
            };
            compare<float>(one(2, 7, 21, 24), true, 1e-4);
            compare<float>(one(2, 6, 20, 24), true, 1e-4);
            compare<float>(one(1, 5, 37, 8), false, 1e-4);
            compare<float>(one(3, 3, 3, 16), true, 1e-4, 1);
            compare<float>(one(1, 3, 4, normalises ? 256 : 264, pools), true, 1e-4);
            compare<float>(one(1, 5, 6, 96), true, 1e-4);
            compare<float>(one(2, 3, 5, 40), true, 1e-4);  // lanes that are idle
            compare<float>(one(2, 6, 19, 32), true, 1e-4);
            compare<float>(one(2, 5, 19, 16, true, 0.6F), true, 1e-4);
            compare<float>(one(1, 2, 9, 8), true, 1e-4, 1);  // no window
            compare<float>(one(1, 3, 3, normalises ? 192 : 2048), true, 1e-4, 2);
            compare<Bfloat16>(one(2, 7, 21, 96), true, 0.3);  // of numbers up to 100
        }
}

TEST_CASE("channels are shared out over the lanes of a warp, without normalisation of a block") {
    const auto one = [](std::int32_t channels, bool normalises = true) {
        return Activation{1, 4, 4, channels, true, normalises, true, 0.1F, 0.75F, 1};
    };
    CHECK(one(96).lane_channels() == 12);
    CHECK(one(96).block_runs() == 32);
    CHECK(one(256).lane_channels() == 8);
    CHECK(one(256).block_runs() == 8);
    CHECK(one(40).block_runs() == 48);
    CHECK(one(40, false).block_runs() == 51);
    CHECK(one(384, false).block_runs() == 5);
    CHECK(one(256).fits());
    CHECK(one(384).fits());
    CHECK_FALSE(one(264).fits());
    CHECK(one(2048, false).fits());
    CHECK_FALSE(one(2056, false).fits());
    CHECK_FALSE(one(12).fits());
    CHECK_FALSE(one(0).fits());
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
        tensors.push_back({weights.data() + start, gradient.data() + start, sums.data() + start,
                           nullptr, size, decay});
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

TEST_CASE("AdaGrad of a bfloat16 gradient equals that of its numbers and writes rounded weights") {
    for (const std::int64_t first : {0, 1}) {  // in fours, and one by one
        const std::int64_t count = training::adagrad_chunk + 13;
        std::mt19937 random(5);
        std::normal_distribution<float> normal(0, 1);
        std::vector<Bfloat16> gradient(size_of(count + first)), rounded(gradient.size());
        std::vector<float> wide(gradient.size()), weights(gradient.size()),
            sums(gradient.size(), 1);
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            gradient[i] = from_float<Bfloat16>(i % 64 < 16 ? 0.0F : normal(random));
            wide[i] = to_float(gradient[i]);
            weights[i] = normal(random);
            rounded[i] = from_float<Bfloat16>(weights[i]);
        }
        auto expected = weights, expected_sums = sums;
        const float rate = 0.1F;
        const std::vector<training::AdagradTensor> tensors{
            {weights.data() + first, gradient.data() + first, sums.data() + first,
             rounded.data() + first, count, 0},
            {expected.data() + first, wide.data() + first, expected_sums.data() + first, nullptr,
             count, 0}};
        REQUIRE(training::takes_fours(tensors[0]) == (first == 0));
        for (const auto& launch : training::adagrad_launches(tensors, &rate, 1e-4F))
            for (std::int64_t chunk = 0; chunk < launch.chunks(); ++chunk)
                every_thread(32, [&](int t) { training::adagrad_thread(launch, chunk, t, 32); });
        CHECK(weights == expected);
        CHECK(sums == expected_sums);
        std::int64_t wrong = 0;
        for (std::size_t i = 0; i < weights.size(); ++i)
            wrong += rounded[i].bits == from_float<Bfloat16>(weights[i]).bits ? 0 : 1;
        CHECK(wrong == 0);
    }
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
