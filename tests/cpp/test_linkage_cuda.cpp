// The CUDA kernels of complete linkage, run on the host thread by thread in a random order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "linkage/resident.hpp"
#include "linkage/square_driver.hpp"

using namespace cliquesim;

namespace {

using Index = std::int32_t;

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

// What linkage.cu launches, with small blocks.
class HostPhases {
  public:
    explicit HostPhases(unsigned seed) : random_(seed) {}
    int rounds = 0, chains = 0, compactions = 0;

    template <typename T>
    void find_all(const SquareClusters<T>& s) {
        in_any_order(s.width, [&](Index c) { find_nearest(s, c); });
    }

    template <typename T>
    RoundCounts round(const SquareClusters<T>& s, Index merged) {
        ++rounds;
        *s.counts = {0, 0};
        in_any_order(s.width, [&](Index c) { find_pair(s, c, merged); });
        in_any_order(s.counts->pairs * s.width, [&](Index item) {
            const Index a = s.pairs[item / s.width];
            merge_column(s, a, s.nearest[a], item % s.width);
        });
        in_any_order(s.width, [&](Index c) { follow_neighbor(s, c); });
        in_any_order(s.counts->lost, [&](Index i) { find_nearest(s, s.lost[i]); });
        return *s.counts;
    }

    template <typename T>
    void compact_rows(const SquareClusters<T>& s, Index count) {
        ++compactions;
        std::vector<T> chunk(chunk_columns);
        in_any_order(count, [&](Index i) {
            for (Index begin = 0; begin < count; begin += chunk_columns) {
                const Index end = std::min(count, begin + chunk_columns);
                in_any_order(threads, [&](Index t) {
                    gather_chunk(s, s.kept[i], begin, end, chunk.data(), t, threads);
                });
                in_any_order(threads, [&](Index t) {
                    put_chunk(s, s.kept[i], begin, end, chunk.data(), t, threads);
                });
            }
        });
    }

    template <typename T>
    void clear_merged_into(const SquareClusters<T>& s) {
        std::fill(s.merged_into, s.merged_into + s.width, -1);
    }

    template <typename T>
    void chain(const SquareClusters<T>& s, Index until, Index steps) {
        ++chains;
        steps = std::min(steps, 100);
        find_top(s);
        for (Index step = 0; step < steps && s.state->alive_count > until; ++step) {
            const Index blocks = 1 + static_cast<Index>(random_() % threads);
            in_any_order(blocks,
                         [&](Index b) { s.candidates[b] = nearest(s, s.state->top, b, blocks); });
            advance_chain(s, reduce<T>([&](Index t) { return block_candidate(s, t, blocks); }));
            if (s.state->b >= 0)
                in_any_order(s.width, [&](Index j) { merge_column(s, s.state->a, s.state->b, j); });
        }
    }

    template <typename V>
    void read(V* to, const V* from, std::size_t count) {
        std::copy_n(from, count, to);
    }
    template <typename V>
    void write(V* to, const V* from, std::size_t count) {
        std::copy_n(from, count, to);
    }

  private:
    static constexpr Index threads = 8, chunk_columns = 24;

    template <typename Body>
    void in_any_order(Index count, const Body& body) {
        std::vector<Index> order(size(count));
        for (Index i = 0; i < count; ++i) order[size(i)] = i;
        std::shuffle(order.begin(), order.end(), random_);
        for (const Index i : order) body(i);
    }

    template <typename T, typename Each>
    Candidate<T> reduce(const Each& candidate) {
        Candidate<T> shared[threads];
        in_any_order(threads, [&](Index t) { shared[t] = candidate(t); });
        for (Index half = threads / 2; half > 0; half /= 2)
            in_any_order(threads, [&](Index t) { halve_candidates(shared, t, half); });
        return shared[0];
    }

    template <typename T>
    Candidate<T> nearest(const SquareClusters<T>& s, Index c, Index block = 0, Index blocks = 1) {
        return reduce<T>(
            [&](Index t) { return scan_columns(s, c, block * threads + t, blocks * threads); });
    }

    template <typename T>
    void find_nearest(const SquareClusters<T>& s, Index c) {
        set_neighbor(s, c, nearest(s, c));
    }

    std::mt19937 random_;
};

template <typename T>
struct Memory {
    explicit Memory(std::int64_t n)
        : integers(size(7 * n)),
          alive(size(n)),
          distances(size(n)),
          merges(size(n)),
          candidates(size(max_chain_blocks)) {}

    SquareClusters<T> clusters(T* square, std::int64_t n, std::int64_t stride) {
        SquareClusters<T> s{};
        s.distances = square;
        s.stride = stride;
        s.width = static_cast<Index>(n);
        Index* next = integers.data();
        for (auto* array :
             {&s.row_of, &s.nearest, &s.merged_into, &s.pairs, &s.lost, &s.kept, &s.chain}) {
            *array = next;
            next += n;
        }
        s.alive = alive.data();
        s.nearest_distance = distances.data();
        s.candidates = candidates.data();
        s.merges = merges.data();
        s.counts = &counts;
        s.state = &state;
        return s;
    }

    std::vector<Index> integers;
    std::vector<std::uint8_t> alive;
    std::vector<T> distances;
    std::vector<LeafMerge<T>> merges;
    std::vector<Candidate<T>> candidates;
    RoundCounts counts{};
    ChainState state{};
};

// The distance of i and j, i < j.
using Distance = std::function<double(std::int64_t, std::int64_t)>;

// Dirt in the padding and on the diagonal must not matter.
template <typename T>
std::vector<T> make_square(std::int64_t n, std::int64_t stride, const Distance& distance) {
    std::vector<T> square(size(n * stride), std::numeric_limits<T>::lowest());
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = i + 1; j < n; ++j)
            square[size(i * stride + j)] = square[size(j * stride + i)] =
                static_cast<T>(distance(i, j));
    return square;
}

template <typename T>
HostPhases check_against_resident(std::int64_t n, const Distance& distance, unsigned seed = 0) {
    const std::int64_t stride = n + 3;
    std::vector<T> square = make_square<T>(n, n, distance);
    ThreadPool pool(Context{1, nullptr});
    const auto expected = complete_linkage(MatrixView<T>(square.data(), n, n), pool);

    std::vector<T> padded = make_square<T>(n, stride, distance);
    Memory<T> memory(n);
    HostPhases phases(seed);
    const auto report = [](double fraction) { CHECK((fraction >= 0 && fraction <= 1)); };
    const auto found =
        SquareDriver(memory.clusters(padded.data(), n, stride), phases, report).run();

    REQUIRE(found.size() == expected.size());
    const auto same = [](const Merge& x, const Merge& y) {
        return x.leaf_a == y.leaf_a && x.leaf_b == y.leaf_b && x.height == y.height;
    };
    CHECK(std::equal(found.begin(), found.end(), expected.begin(), same));
    return phases;
}

std::vector<double> clustered_points(std::int64_t n, std::int64_t dimensions, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> centres(size((n / 20 + 1) * dimensions)), points(size(n * dimensions));
    for (double& value : centres) value = 4 * normal(random);
    for (std::int64_t i = 0; i < n; ++i) {
        const auto centre = static_cast<std::int64_t>(random() % size(n / 20 + 1));
        for (std::int64_t d = 0; d < dimensions; ++d)
            points[size(i * dimensions + d)] =
                centres[size(centre * dimensions + d)] + normal(random);
    }
    return points;
}

Distance euclidean(const std::vector<double>& points, std::int64_t dimensions) {
    return [&points, dimensions](std::int64_t i, std::int64_t j) {
        double sum = 0;
        for (std::int64_t d = 0; d < dimensions; ++d) {
            const double gap = points[size(i * dimensions + d)] - points[size(j * dimensions + d)];
            sum += gap * gap;
        }
        return std::sqrt(sum);
    };
}

}  // namespace

TEST_CASE("the CUDA kernels' threads, in any order, merge as the resident square: random") {
    for (unsigned seed = 0; seed < 60; ++seed) {
        std::mt19937 random(seed);
        const std::int64_t n = 1 + static_cast<std::int64_t>(random() % 120);
        std::uniform_real_distribution<double> uniform;
        const Distance distance = [&](std::int64_t, std::int64_t) { return uniform(random); };
        std::vector<double> fixed = make_square<double>(n, n, distance);
        const Distance again = [&](std::int64_t i, std::int64_t j) {
            return fixed[size(i * n + j)];
        };
        check_against_resident<float>(n, again, seed);
        check_against_resident<double>(n, again, seed);
    }
}

TEST_CASE("the CUDA kernels' threads: few different distances, infinite ones among them") {
    for (unsigned seed = 0; seed < 120; ++seed) {
        std::mt19937 random(seed);
        const std::int64_t n = 2 + static_cast<std::int64_t>(random() % 100);
        const unsigned levels = 1 + seed % 6;
        std::vector<double> fixed = make_square<double>(n, n, [&](std::int64_t, std::int64_t) {
            const auto level = random() % levels;
            return level == 5 ? std::numeric_limits<double>::infinity()
                              : static_cast<double>(level) - 2;  // negated similarities too
        });
        check_against_resident<float>(
            n, [&](std::int64_t i, std::int64_t j) { return fixed[size(i * n + j)]; }, seed);
    }
}

TEST_CASE("the CUDA kernels' threads: clusters, with duplicates and on a grid") {
    for (unsigned seed = 0; seed < 3; ++seed) {
        std::vector<double> points = clustered_points(700, 3, seed);
        if (seed > 0)
            for (double& value : points) value = std::round(value);
        const auto phases = check_against_resident<float>(700, euclidean(points, 3), seed);
        CHECK(phases.rounds > 5);
        CHECK(phases.compactions > 5);
    }
}

TEST_CASE("the CUDA kernels' threads: all duplicates, growing and shrinking gaps") {
    const std::int64_t n = 600;
    check_against_resident<float>(n, [](std::int64_t, std::int64_t) { return 0.0; });
    const auto growing = check_against_resident<float>(
        n, [](std::int64_t i, std::int64_t j) { return static_cast<double>(j * j - i * i); });
    CHECK(growing.chains > 0);
    const auto shrinking = check_against_resident<float>(n, [](std::int64_t i, std::int64_t j) {
        return static_cast<double>((n - i) * (n - i) - (n - j) * (n - j));
    });
    CHECK(shrinking.chains > 0);
}

TEST_CASE("the CUDA linkage stops when the report throws") {
    const std::int64_t n = 50;
    std::vector<float> square = make_square<float>(
        n, n, [](std::int64_t i, std::int64_t j) { return static_cast<double>(j - i); });
    Memory<float> memory(n);
    HostPhases phases(0);
    const auto report = [](double) { throw std::runtime_error("stop"); };
    CHECK_THROWS_AS(SquareDriver(memory.clusters(square.data(), n, n), phases, report).run(),
                    std::runtime_error);
    CHECK(phases.rounds == 1);
}
