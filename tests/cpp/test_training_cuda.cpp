// The CUDA kernels of training, every thread of every block in turn on the host: pixels against the
// CPU's own, the rest against plain loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "grid_on_host.hpp"
#include "training/augment_grid.hpp"
#include "training/gradient_tile.hpp"
#include "training/training.hpp"

using namespace cliquesim;
using test::every_thread;
using test::size_of;
using test::worse;
using training::FrameChange;

namespace {

constexpr float untouched = -77;

struct Steps {
    bool moves, recolours, covers, erases;
};

struct Batch {
    std::int64_t count, height, width, stride;
    std::vector<std::uint8_t> corpus;  // of twice as many frames
    std::vector<FrameChange> changes;

    std::int64_t size() const { return count * height * width * 3; }
};

Batch make_batch(std::int64_t count, std::int64_t height, std::int64_t width) {
    const std::int64_t bytes = height * width * 3 + training::frame_padding;
    Batch batch{count, height, width, (bytes + 15) / 16 * 16, {}, {}};
    std::mt19937 random(static_cast<unsigned>(height * 100 + width));
    std::uniform_real_distribution<float> uniform(-1, 1);
    const auto draw = [&](float low, float high) {
        return low + (high - low) * (0.5F + 0.5F * uniform(random));
    };
    batch.corpus.resize(size_of(2 * count * batch.stride));
    for (auto& byte : batch.corpus) byte = static_cast<std::uint8_t>(random() % 256);
    for (std::int64_t i = 0; i < count; ++i) {
        FrameChange change{};
        change.frame = 2 * count - 1 - i;
        change.other = static_cast<std::int32_t>((i + 1) % count);
        const float mirror = i % 3 == 1 ? -1.0F : 1.0F;
        const std::array<float, 6> affine{mirror * draw(0.8F, 1.2F), draw(-0.3F, 0.3F),
                                          draw(-0.5F, 0.5F),         draw(-0.3F, 0.3F),
                                          draw(0.8F, 1.2F),          draw(-0.5F, 0.5F)};
        std::copy(affine.begin(), affine.end(), change.affine);
        for (int c = 0; c < 6; ++c)
            change.colour[c] = c == 3 ? draw(-0.2F, 0.2F) : draw(0.7F, 1.3F);
        const bool covered = i % 4 != 0, erased = i % 2 == 0;
        for (float& half : change.ellipse)
            half = covered ? draw(0.3F, 1.1F) : std::numeric_limits<float>::infinity();
        const std::array<float, 4> edges{draw(-0.9F, 0), draw(0, 0.9F), draw(-0.9F, 0),
                                         draw(0, 0.9F)};
        for (int c = 0; c < 4; ++c)
            change.erase[c] = erased ? edges[size_of(c)] : (c % 2 == 0 ? 2.0F : -2.0F);
        change.extent[0] = i % 2 == 0 ? 1.0F : draw(0.3F, 0.9F);
        change.extent[1] = draw(0.3F, 0.9F);
        batch.changes.push_back(change);
    }
    return batch;
}

// What the CPU makes of the batch, planes.
std::vector<float> on_cpu(const Batch& batch, const Steps& steps, float softness) {
    const std::int64_t bytes = batch.height * batch.width * 3;
    std::vector<std::uint8_t> frames(size_of(batch.count * bytes));
    std::vector<float> affine, colour, ellipse, erase;
    std::vector<std::int64_t> others;
    for (std::int64_t i = 0; i < batch.count; ++i) {
        const FrameChange& change = batch.changes[size_of(i)];
        std::copy_n(batch.corpus.begin() + change.frame * batch.stride, bytes,
                    frames.begin() + i * bytes);
        const auto append = [](std::vector<float>& to, const auto& values) {
            to.insert(to.end(), std::begin(values), std::end(values));
        };
        append(affine, change.affine);
        append(colour, change.colour);
        append(ellipse, change.ellipse);
        append(erase, change.erase);
        others.push_back(change.other);
    }
    training::Changes changes;
    if (steps.moves) changes.affine = affine;
    if (steps.recolours) changes.colour = colour;
    if (steps.covers) changes.ellipse = ellipse, changes.others = others;
    if (steps.erases) changes.erase = erase;
    changes.softness = softness;
    std::vector<float> images(size_of(batch.size()));
    training::augment({frames.data(), batch.count, batch.height, batch.width}, changes,
                      images.data(), {1});
    return images;
}

template <bool covered>
void run_means(const training::AugmentGrid& grid, int threads) {
    const auto buffer = std::make_unique<training::MeanBuffer>();
    for (std::int64_t index = 0; index < grid.count; ++index) {
        if (covered && !training::needs_erase_mean(grid, index)) continue;
        every_thread(threads, [&](int thread) {
            training::add_pixels<covered>(grid, index, thread, threads, *buffer);
        });
        for (int half = threads / 2; half > 0; half /= 2)
            every_thread(threads, [&](int thread) { training::fold_sums(thread, half, *buffer); });
        every_thread(threads, [&](int thread) {
            training::write_means<covered>(grid, index, thread, *buffer);
        });
    }
}

// The launches of augment.cu; rows of frames and pixels as grids of the given sizes have them.
template <typename T>
void run_augment(const training::AugmentGrid& grid, T* out, std::int64_t rows,
                 std::int64_t threads) {
    if (grid.recolours) run_means<false>(grid, 64);
    if (grid.erases) run_means<true>(grid, 64);
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t thread = 0; thread < threads; ++thread) {
            const auto first = static_cast<std::uint32_t>(thread);
            const auto step = static_cast<std::uint32_t>(threads);
            if (grid.replaces())
                training::augment_thread<true>(grid, out, row, rows, first, step);
            else
                training::augment_thread<false>(grid, out, row, rows, first, step);
        }
}

struct Made {
    std::vector<float> images;  // NHWC
    std::vector<float> means;
};

training::AugmentGrid grid_of(const Batch& batch, const Steps& steps, float softness, Made& made) {
    made.images.assign(size_of(batch.size() + 1), untouched);
    made.means.assign(size_of(4 * batch.count), untouched);
    return {batch.corpus.data(),
            batch.stride,
            false,
            batch.changes.data(),
            batch.count,
            static_cast<std::int32_t>(batch.height),
            static_cast<std::int32_t>(batch.width),
            steps.moves,
            steps.recolours,
            steps.covers,
            steps.erases,
            softness,
            made.means.data(),
            made.means.data() + batch.count,
            0,
            1,
            false};
}

float plane_value(const Batch& batch, const std::vector<float>& planes, std::int64_t n,
                  std::int64_t i, std::int64_t c) {
    return planes[size_of((n * 3 + c) * batch.height * batch.width + i)];
}

double difference(float a, float b) {
    return std::abs(static_cast<double>(a) - static_cast<double>(b));
}

double worst_difference(const Batch& batch, const std::vector<float>& planes,
                        const std::vector<float>& pixels) {
    double worst = 0;
    const std::int64_t size = batch.height * batch.width;
    for (std::int64_t n = 0; n < batch.count; ++n)
        for (std::int64_t i = 0; i < size; ++i)
            for (std::int64_t c = 0; c < 3; ++c)
                worst = worse(worst, difference(plane_value(batch, planes, n, i, c),
                                                pixels[size_of((n * size + i) * 3 + c)]));
    return worst;
}

}  // namespace

TEST_CASE("the CUDA kernels of augmentation, run thread by thread, equal the CPU's") {
    for (const Batch& batch : {make_batch(7, 37, 29), make_batch(4, 96, 96), make_batch(3, 1, 5),
                               make_batch(1, 1, 1), make_batch(2, 50, 3)})
        for (const Steps& steps :
             {Steps{true, true, true, true}, Steps{true, false, true, true},
              Steps{true, true, false, false}, Steps{true, false, false, false}})
            for (const float softness : {0.15F, 0.0F}) {
                Made made;
                const auto grid = grid_of(batch, steps, softness, made);
                run_augment(grid, made.images.data(), 3, 1000);
                CHECK(made.images.back() == untouched);
                INFO(batch.height, " x ", batch.width, ", softness ", softness);
                const auto expected = on_cpu(batch, steps, softness);
                CHECK(worst_difference(batch, expected, made.images) <= 2e-5);
            }
}

TEST_CASE("the CUDA kernel of augmentation mirrors without moving, and copies") {
    const Batch batch = make_batch(4, 9, 14);
    Made made;
    const auto grid = grid_of(batch, {false, false, false, false}, 0, made);
    run_augment(grid, made.images.data(), 1, 7);
    for (std::int64_t n = 0; n < 4; ++n)
        for (std::int64_t y = 0; y < 9; ++y)
            for (std::int64_t x = 0; x < 14; ++x) {
                const FrameChange& change = batch.changes[size_of(n)];
                const std::int64_t from = change.affine[0] < 0 ? 13 - x : x;
                const auto byte =
                    batch.corpus[size_of(change.frame * batch.stride + (y * 14 + from) * 3 + 1)];
                CHECK(made.images[size_of(((n * 9 + y) * 14 + x) * 3 + 1)] ==
                      doctest::Approx(byte / 255.0).epsilon(1e-6));
            }
}

TEST_CASE("the CUDA kernel of augmentation writes blocks of pixels, and nothing beside them") {
    const Batch batch = make_batch(3, 10, 13);
    const Steps steps{true, true, true, true};
    Made plain, other;
    const auto expected = grid_of(batch, steps, 0.2F, plain);
    run_augment(expected, plain.images.data(), 3, 50);
    for (const auto& [block, more] : {std::pair{3, 5}, {4, 5}, {4, 0}, {4, 16}}) {
        const std::int32_t down = (10 + block - 1) / block, across = (13 + block - 1) / block;
        const std::int32_t pitch = 3 * block * block + more;
        auto grid = grid_of(batch, steps, 0.2F, other);
        grid.block = block;
        grid.pitch = pitch;
        std::vector<float> out(size_of(3 * down * across * pitch), -1.0F);
        auto rest = out;
        run_augment(grid, out.data(), 3, 50);
        std::int64_t wrong = 0;
        for (std::int32_t i = 0; i < 3 * 10 * 13 * 3; ++i) {
            const std::int32_t c = i % 3, x = i / 3 % 13, y = i / 39 % 10, n = i / 390;
            const std::int32_t square = (n * down + y / block) * across + x / block;
            const std::size_t at =
                size_of(square * pitch + 3 * (y % block * block + x % block) + c);
            wrong += out[at] == plain.images[size_of(i)] ? 0 : 1;
            rest[at] = out[at];
        }
        CHECK(wrong == 0);
        CHECK(out == rest);
    }
}

TEST_CASE("the CUDA kernel of augmentation writes what the network reads") {
    const Batch batch = make_batch(5, 20, 31);
    const Steps steps{true, true, true, true};
    Made plain, faded;
    const auto unchanged = grid_of(batch, steps, 0.2F, plain);
    run_augment(unchanged, plain.images.data(), 5, 64);
    auto grid = grid_of(batch, steps, 0.2F, faded);
    grid.mean = 0.45F;
    grid.scale = 4;
    grid.fades = true;
    std::vector<Bfloat16> out(size_of(batch.size()));
    run_augment(grid, out.data(), 2, 900);
    for (std::int64_t n = 0; n < 5; ++n)
        for (std::int64_t y = 0; y < 20; ++y)
            for (std::int64_t x = 0; x < 31; ++x) {
                const float* extent = batch.changes[size_of(n)].extent;
                const auto left = [](float share, std::int64_t i, std::int64_t side) {
                    const float centre = std::abs(
                        (static_cast<float>(i) + 0.5F) * 2.0F / static_cast<float>(side) - 1.0F);
                    return share < 1 ? std::clamp((share - centre) / 0.1F + 1, 0.0F, 1.0F) : 1.0F;
                };
                const float weight = left(extent[0], x, 31) * left(extent[1], y, 20);
                for (std::int64_t c = 0; c < 3; ++c) {
                    const auto at = size_of(((n * 20 + y) * 31 + x) * 3 + c);
                    const float expected = (plain.images[at] - 0.45F) * 4 * weight;
                    CHECK(std::abs(to_float(out[at]) - expected) <=
                          1e-5F + std::abs(expected) / 256);
                }
            }
}

TEST_CASE("the CUDA kernel that gathers frames copies every byte, and they are augmented alike") {
    const Batch batch = make_batch(5, 13, 11);
    using Words = Four<std::uint32_t>;
    const auto pieces = size_of(batch.stride / 16);
    std::vector<Words> corpus(pieces * size_of(2 * batch.count)), out(pieces * size_of(5));
    std::memcpy(corpus.data(), batch.corpus.data(), batch.corpus.size());
    const training::GatherGrid gather{corpus.data(), batch.stride / 16, batch.changes.data(), 5,
                                      out.data()};
    for (std::int64_t row = 0; row < 2; ++row)
        for (std::int64_t thread = 0; thread < 3; ++thread)
            training::gather_thread(gather, row, 2, thread, 3);
    Made resident, staged;
    const Steps steps{true, true, true, true};
    const auto whole = grid_of(batch, steps, 0.1F, resident);
    run_augment(whole, resident.images.data(), 1, 50);
    auto grid = grid_of(batch, steps, 0.1F, staged);
    grid.corpus = reinterpret_cast<const std::uint8_t*>(out.data());
    grid.gathered = true;
    run_augment(grid, staged.images.data(), 1, 50);
    CHECK(resident.images == staged.images);
}

namespace {

struct GradientCase {
    std::int64_t height, width;
    int window;
    bool fades;
    bool ties;  // of colours of other directions
};

// Launches gradient_channels.cu on the host.
std::vector<float> run_gradients(const training::GradientGrid& grid, std::int64_t size) {
    std::vector<float> found(size_of(size + 1), untouched);
    const auto buffer = std::make_unique<training::GradientBuffer>();
    std::memset(static_cast<void*>(buffer.get()), 0xFF, sizeof *buffer);
    const int threads = 100;
    for (std::int64_t index = 0; index < grid.tiles(); ++index) {
        const auto tile = training::gradient_tile_at(grid, index);
        every_thread(threads, [&](int thread) {
            training::measure_squares(grid, tile, thread, threads, *buffer);
        });
        every_thread(threads,
                     [&](int thread) { training::sum_rows(grid, thread, threads, *buffer); });
        every_thread(threads, [&](int thread) {
            training::write_gradients(grid, tile, found.data(), thread, threads, *buffer);
        });
    }
    CHECK(found.back() == untouched);
    return found;
}

// Weights along an axis, for the CPU.
void append_fading(std::vector<float>& to, float share, std::int64_t side) {
    const auto count = static_cast<std::int32_t>(side);
    for (std::int32_t i = 0; i < count; ++i)
        to.push_back(training::fading(share, training::pixel_centre(i, count)));
}

void compare_gradients(const GradientCase& one) {
    const Batch batch = make_batch(3, one.height, one.width);
    const std::int64_t size = one.height * one.width;
    std::vector<float> planes = on_cpu(batch, {true, false, false, false}, 0);
    if (one.ties)
        for (float& value : planes) value = std::round(value);
    std::vector<float> pixels(size_of(batch.size())), rows, columns;
    for (std::int64_t n = 0; n < 3; ++n) {
        for (std::int64_t i = 0; i < size; ++i)
            for (std::int64_t c = 0; c < 3; ++c)
                pixels[size_of((n * size + i) * 3 + c)] = plane_value(batch, planes, n, i, c);
        const float* extent = batch.changes[size_of(n)].extent;
        if (one.fades) append_fading(rows, extent[1], one.height);
        if (one.fades) append_fading(columns, extent[0], one.width);
    }
    std::vector<float> expected(pixels.size());
    training::gradient_channels({planes.data(), 3, one.height, one.width}, {one.window, 0.02F},
                                rows, columns, expected.data(), {1});
    const auto found = run_gradients(
        training::with_tiles({pixels.data(), one.fades ? batch.changes.data() : nullptr, 3,
                              static_cast<std::int32_t>(one.height),
                              static_cast<std::int32_t>(one.width), one.window / 2, 0.02F}),
        batch.size());
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
        worst = worse(worst, difference(expected[i], found[i]));
    INFO(one.height, " x ", one.width, ", window ", one.window);
    CHECK(worst <= 2e-5);
}

}  // namespace

TEST_CASE("the CUDA kernel of gradients, run thread by thread, equals the CPU's") {
    for (const bool fades : {false, true})
        for (const bool ties : {false, true}) {
            compare_gradients({96, 96, 17, fades, ties});
            compare_gradients({33, 41, 17, fades, ties});
            compare_gradients({70, 31, 33, fades, ties});
            compare_gradients({1, 4, 5, fades, ties});
            compare_gradients({2, 1, 1, fades, ties});
            compare_gradients({64, 65, 3, fades, ties});
        }
}
