// The code of the batches' CUDA kernels on the host: by one thread that plays all of them, and by
// real threads with barriers.
#include <doctest/doctest.h>

#include <barrier>
#include <random>
#include <thread>
#include <vector>

#include "batches/row_sums.hpp"
#include "played_device.hpp"

using namespace cliquesim;
using namespace cliquesim::test;

namespace {

// One of the threads of a block.
struct ThreadOfBlock {
    std::int64_t thread, threads;
    KickCandidate* candidates;
    std::barrier<>* barrier;
    std::int64_t size() const { return threads; }
    template <typename Body>
    void all(const Body& body) {
        body(thread, threads);
        barrier->arrive_and_wait();
    }
};

}  // namespace

TEST_CASE("sums over compressed rows by a grid smaller than the result") {
    const Instance one(3, 12, 20, 4, 0);
    std::mt19937 random(5);
    std::vector<double> values(static_cast<std::size_t>(7 * one.N)), out(7 * 12, -1.0);
    for (double& value : values) value = static_cast<double>(random() % 1000);
    const RowSums sums{one.offsets.data(), one.indices.data(), one.K, values.data(), one.N, 7,
                       out.data()};
    for (std::int64_t thread = 0; thread < 5; ++thread) row_sums_thread(sums, thread, 5);
    for (std::int64_t b = 0; b < 7; ++b)
        for (std::int64_t k = 0; k < one.K; ++k) {
            double sum = 0;
            for (const std::int64_t n : one.problem.coverage.of(k)) sum += values[b * one.N + n];
            CHECK(out[b * one.K + k] == sum);
        }
}

TEST_CASE("a block finds the exchange that the CPU finds") {
    for (unsigned seed = 0; seed < 6; ++seed) {
        const Instance one(5, 14, 25, 4, seed, seed % 2 == 1);
        const auto members = random_members(one, seed);
        const DiscreteTables tables(one.problem, one.B, one.r);
        DiscreteState reference(tables);
        for (std::int64_t i = 0; i < one.B * one.r; ++i) reference.add(i / one.r, members[i]);
        DiscreteBatches start;
        start.cliques = members;
        PlayedDevice device(one, start, 1, 8);
        const KickState state = device.states().view();
        const KickScratch scratch = device.scratch();
        for (std::int64_t b = 0; b < one.B; ++b) {
            look_at(device.block(), one.tables, state, scratch, b);
            const auto found = smallest(device.block(), [&](std::int64_t thread, std::int64_t n) {
                return scan_pairs(one.tables, state, scratch, b, thread, n);
            });
            const Exchange expected = reference.best_exchange(b);
            CHECK(found.change == doctest::Approx(expected.change).epsilon(1e-12));
            CHECK(found.pair == expected.slot * one.K + expected.in);
            const std::int64_t out = reference.member(b, expected.slot);
            CHECK(change_of_pair(one.tables, scratch, expected.slot, out, expected.in) ==
                  doctest::Approx(reference.change_of(b, expected.slot, expected.in)));
        }
    }
}

TEST_CASE("a kick's change is that of Eq. (1), and ends in a local optimum") {
    const Instance one(6, 20, 40, 5, 2);
    const DiscreteBatches start = optimum(one, 0);
    PlayedDevice device(one, start, 1, 16);
    const double before = objective(one, device.states().members.data());
    CHECK(before == doctest::Approx(start.objectives[0]).epsilon(1e-12));
    int lower = 0;
    for (std::int64_t number = 0; number < 200; ++number) {
        device.kick(0, number);
        const KickState own = device.copy(0);
        const double after = objective(one, own.members);
        CHECK(device.control().change == doctest::Approx(after - before).epsilon(1e-9));
        CHECK(device.results[0].moves ==
              (after - before < -one.tables.tolerance ? device.control().moves : 0));
        lower += device.results[0].moves > 0;
        std::vector<std::int64_t> members(own.members, own.members + one.B * one.r);
        const auto again = swap_batches(one.problem, {members.data(), 1, one.B * one.r}, one.r,
                                        {0, 0, 0}, Context{1, nullptr});
        CHECK(again.swaps[0] == 0);
    }
    CHECK(lower > 0);
    CHECK(lower < 200);
}

TEST_CASE("rounds of kicks: the selection falls by what is taken over and stays consistent") {
    const Instance one(8, 24, 50, 5, 4);
    const DiscreteBatches start = optimum(one, 0);
    PlayedDevice device(one, start, 16, 8);
    double value = objective(one, device.states().members.data());
    int falls = 0, refused = 0;
    for (std::int64_t round = 0; round < 12; ++round) {
        double lowest = 0, sum = 0;
        for (std::int64_t p = 0; p < 16; ++p) {
            device.kick(p, round * 16 + p);
            const KickResult& result = device.results[static_cast<std::size_t>(p)];
            if (result.moves == 0) continue;
            lowest = std::min(lowest, result.change);
            sum += result.change;
        }
        device.merge();
        const double now = objective(one, device.states().members.data());
        CHECK(now <= value + lowest + 1e-9);
        falls += now < value - 1e-9;
        refused += now > value + sum + 1e-9;
        value = now;
        check_consistent(one, device.states().view());
        check_consistent(one, device.copy(3));
    }
    CHECK(falls > 1);
    CHECK(refused > 0);  // trails that do not fit together were undone
}

TEST_CASE("kicks at a time are about as good as kicks one after the other") {
    double ours = 0, theirs = 0, without = 0;
    for (unsigned seed = 0; seed < 4; ++seed) {
        const Instance one(8, 30, 60, 6, seed);
        const DiscreteBatches start = optimum(one, 0);
        PlayedDevice device(one, start, 32, 1);
        for (std::int64_t round = 0; round < 16; ++round) {
            for (std::int64_t p = 0; p < 32; ++p) device.kick(p, round * 32 + p);
            device.merge();
        }
        ours += objective(one, device.states().members.data());
        theirs += optimum(one, 512).objectives[0];
        without += start.objectives[0];
    }
    CHECK(ours < without);
    CHECK((ours - theirs) < 0.2 * (without - theirs));
}

TEST_CASE("a full trail ends a descent at a valid selection") {
    const Instance one(6, 20, 40, 5, 3);
    DiscreteBatches start;
    start.cliques = random_members(one, 9);  // far from an optimum: long descents
    PlayedDevice device(one, start, 1, 4);
    const double before = objective(one, device.states().members.data());
    KickMove trail[4];
    KickControl control{};
    KickResult result{};
    kick_block(device.block(), one.tables, device.states().view(), device.copy(0), device.scratch(),
               control, trail, 4, 1, 0, result);
    CHECK(control.moves == 4);
    CHECK(control.change ==
          doctest::Approx(objective(one, device.copy(0).members) - before).epsilon(1e-9));
}

TEST_CASE("real threads with barriers kick and merge as the played ones do") {
    constexpr std::int64_t threads = 4, width = 6;
    const Instance one(6, 20, 40, 5, 4);
    DiscreteBatches start;
    start.cliques = random_members(one, 2);  // all descents begin alike: most trails collide
    PlayedDevice expected(one, start, width, threads), device(one, start, width, threads);
    std::barrier barrier(threads);
    std::vector<KickCandidate> candidates(threads);
    std::vector<KickMove> trails(width * capacity);
    KickControl control{};
    const auto block_of_threads = [&](const auto& body) {
        std::vector<std::jthread> workers;
        for (std::int64_t thread = 0; thread < threads; ++thread)
            workers.emplace_back([&, thread] {
                ThreadOfBlock block{thread, threads, candidates.data(), &barrier};
                body(block);
            });
    };
    for (std::int64_t round = 0; round < 3; ++round) {
        for (std::int64_t p = 0; p < width; ++p) {
            expected.kick(p, round * width + p);
            block_of_threads([&](ThreadOfBlock& block) {
                kick_block(block, one.tables, device.states().view(), device.copy(p),
                           device.scratch(), control, trails.data() + p * capacity, capacity, 11,
                           round * width + p, device.results[static_cast<std::size_t>(p)]);
            });
            CHECK(device.results[static_cast<std::size_t>(p)].change ==
                  expected.results[static_cast<std::size_t>(p)].change);
        }
        expected.merge();
        block_of_threads([&](ThreadOfBlock& block) {
            merge_block(block, one.tables, device.states().view(), device.scratch(), control,
                        trails.data(), capacity, device.results.data(), width);
        });
        CHECK(std::equal(expected.states().members.begin(),
                         expected.states().members.begin() + one.B * one.r,
                         device.states().members.begin()));
    }
}
