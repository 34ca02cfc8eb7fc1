// The code of the batches' CUDA kernels on the host: by one thread that plays all of them, and by
// real threads with barriers.
#include <doctest/doctest.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "batches/batches.hpp"
#include "batches/discrete_state.hpp"
#include "batches/kick_round.hpp"
#include "batches/row_sums.hpp"
#include "common/context.hpp"

using namespace cliquesim;

namespace {

// All threads of a block one after the other in every phase.
struct PlayedBlock {
    std::int64_t threads;
    KickCandidate* candidates;
    std::int64_t size() const { return threads; }
    template <typename Body>
    void all(const Body& body) {
        for (std::int64_t thread = 0; thread < threads; ++thread) body(thread, threads);
    }
};

// One thread of a block.
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

struct Instance {
    std::int64_t B, K, N, r;
    std::vector<double> similarity, weights, batch_gain, total_gain;
    std::vector<std::int64_t> offsets{0}, indices, pair_offsets{0}, others, shared_offsets{0},
        shared;
    Coverage by_sample;
    BatchProblem problem;
    KickTables tables;

    Instance(std::int64_t B_, std::int64_t K_, std::int64_t N_, std::int64_t r_, unsigned seed)
        : B(B_), K(K_), N(N_), r(r_) {
        std::mt19937 random(seed);
        std::normal_distribution<double> normal;
        const std::int64_t dimensions = 6;
        std::vector<double> V(static_cast<std::size_t>(K * dimensions));
        for (double& v : V) v = normal(random);
        for (std::int64_t i = 0; i < K; ++i)
            for (std::int64_t j = 0; j < K; ++j) {
                double sum = 0;
                for (std::int64_t d = 0; d < dimensions; ++d)
                    sum += V[i * dimensions + d] * V[j * dimensions + d];
                similarity.push_back(sum / dimensions);
            }
        for (std::int64_t k = 0; k < K; ++k) {
            std::vector<std::int64_t> all(N);
            for (std::int64_t n = 0; n < N; ++n) all[n] = n;
            std::shuffle(all.begin(), all.end(), random);
            const auto size = 2 + static_cast<std::int64_t>(random() % 6);
            std::sort(all.begin(), all.begin() + size);
            indices.insert(indices.end(), all.begin(), all.begin() + size);
            offsets.push_back(std::ssize(indices));
        }
        for (std::int64_t n = 0; n < N; ++n)
            weights.push_back(1 + static_cast<double>(random() % 3));
        problem.coverage = {K, N, offsets, indices, weights};
        problem.similarity = {similarity.data(), K, K};
        problem.lambda1 = 0.3;
        problem.lambda2 = 0.8;
        by_sample = transpose(problem.coverage);
        for (std::int64_t k = 0; k < K; ++k) {
            for (std::int64_t l = 0; l < K; ++l) {
                const auto a = problem.coverage.of(k), b = problem.coverage.of(l);
                const std::size_t before = shared.size();
                std::set_intersection(a.begin(), a.end(), b.begin(), b.end(),
                                      std::back_inserter(shared));
                if (shared.size() == before) continue;
                others.push_back(l);
                shared_offsets.push_back(std::ssize(shared));
            }
            pair_offsets.push_back(std::ssize(others));
        }
        const DiscreteTables reference(problem, B, r);
        batch_gain = reference.batch_gain;
        total_gain = reference.total_gain;
        tables = {K, N, B, r, reference.tolerance};
        tables.similarity = similarity.data();
        tables.weights = weights.data();
        tables.batch_gain = batch_gain.data();
        tables.total_gain = total_gain.data();
        tables.offsets = offsets.data();
        tables.indices = indices.data();
        tables.by_sample = by_sample.offsets.data();
        tables.holders = by_sample.indices.data();
        tables.pair_offsets = pair_offsets.data();
        tables.others = others.data();
        tables.shared_offsets = shared_offsets.data();
        tables.shared = shared.data();
    }
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;
};

// A state, or several one after the other.
struct States {
    std::vector<std::int32_t> members, total;
    std::vector<double> similarity;
    std::vector<std::uint8_t> selected;

    States(const Instance& one, std::int64_t count)
        : members(static_cast<std::size_t>(count * one.B * one.r)),
          total(static_cast<std::size_t>(count * one.N)),
          similarity(static_cast<std::size_t>(count * one.B * one.K)),
          selected(static_cast<std::size_t>(count * one.B * one.K)) {}
    KickState view() { return {members.data(), total.data(), similarity.data(), selected.data()}; }
};

// State 0 from its members.
void fill(const Instance& one, States& states) {
    std::fill_n(states.total.begin(), one.N, 0);
    std::fill_n(states.similarity.begin(), one.B * one.K, 0.0);
    std::fill_n(states.selected.begin(), one.B * one.K, std::uint8_t{0});
    for (std::int64_t i = 0; i < one.B * one.r; ++i) {
        const std::int64_t b = i / one.r, k = states.members[i];
        states.selected[b * one.K + k] = 1;
        for (const std::int64_t n : one.problem.coverage.of(k)) ++states.total[n];
        for (std::int64_t l = 0; l < one.K; ++l)
            states.similarity[b * one.K + l] += one.similarity[k * one.K + l];
    }
}

std::vector<std::int64_t> random_members(const Instance& one, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::int64_t> members;
    for (std::int64_t b = 0; b < one.B; ++b) {
        std::vector<std::int64_t> all(one.K);
        for (std::int64_t k = 0; k < one.K; ++k) all[k] = k;
        std::shuffle(all.begin(), all.end(), random);
        members.insert(members.end(), all.begin(), all.begin() + one.r);
    }
    return members;
}

double objective(const Instance& one, const std::int32_t* members) {
    std::vector<double> X(static_cast<std::size_t>(one.B * one.K));
    for (std::int64_t i = 0; i < one.B * one.r; ++i) X[i / one.r * one.K + members[i]] = 1;
    const auto terms = objective_terms(one.problem, {X.data(), one.B, one.K}, Context{1, nullptr});
    return terms.similarity - one.problem.lambda1 * terms.batch_coverage -
           one.problem.lambda2 * terms.total_coverage;
}

// A local optimum to kick.
DiscreteBatches optimum(const Instance& one, std::int64_t kicks) {
    const auto start = random_members(one, 1);
    return swap_batches(one.problem, {start.data(), 1, one.B * one.r}, one.r, {kicks, 3, 0},
                        Context{1, nullptr});
}

constexpr std::int32_t capacity = 64;

// Rounds of `width` kicks on the played device.
class PlayedDevice {
  public:
    PlayedDevice(const Instance& one, const DiscreteBatches& start, std::int64_t width,
                 std::int64_t threads)
        : one_(one),
          width_(width),
          states_(one, width + 1),
          scratch_(static_cast<std::size_t>(kick_scratch_size(one.tables))),
          trails_(static_cast<std::size_t>(width * capacity)),
          candidates_(static_cast<std::size_t>(threads)),
          block_{threads, candidates_.data()} {
        results.resize(static_cast<std::size_t>(width));
        std::copy(start.cliques.begin(), start.cliques.end(), states_.members.begin());
        fill(one, states_);
    }

    void kick(std::int64_t p, std::int64_t number) {
        kick_block(block_, one_.tables, states_.view(), copy(p), scratch(), control_,
                   trails_.data() + p * capacity, capacity, 11, number,
                   results[static_cast<std::size_t>(p)]);
    }
    void merge() {
        merge_block(block_, one_.tables, states_.view(), scratch(), control_, trails_.data(),
                    capacity, results.data(), width_);
    }
    KickState copy(std::int64_t p) { return kick_state(one_.tables, states_.view(), p + 1); }
    KickScratch scratch() { return kick_scratch(one_.tables, scratch_.data()); }
    States& states() { return states_; }
    PlayedBlock& block() { return block_; }
    const KickControl& control() const { return control_; }
    const KickMove* trail(std::int64_t p) const { return trails_.data() + p * capacity; }

    std::vector<KickResult> results;

  private:
    const Instance& one_;
    std::int64_t width_;
    States states_;
    std::vector<double> scratch_;
    std::vector<KickMove> trails_;
    std::vector<KickCandidate> candidates_;
    PlayedBlock block_;
    KickControl control_{};
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
        const Instance one(5, 14, 25, 4, seed);
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
        int found = 0;
        for (std::int64_t p = 0; p < 16; ++p) {
            device.kick(p, round * 16 + p);
            const KickResult& result = device.results[static_cast<std::size_t>(p)];
            if (result.moves == 0) continue;
            lowest = std::min(lowest, result.change);
            sum += result.change;
            ++found;
        }
        device.merge();
        const double now = objective(one, device.states().members.data());
        CHECK(now <= value + lowest + 1e-9);
        falls += now < value - 1e-9;
        refused += found > 1 && now > value + sum + 1e-9;
        value = now;
        States rebuilt(one, 1);
        std::copy_n(device.states().members.begin(), one.B * one.r, rebuilt.members.begin());
        fill(one, rebuilt);
        CHECK(std::equal(rebuilt.selected.begin(), rebuilt.selected.end(),
                         device.states().selected.begin()));
        CHECK(
            std::equal(rebuilt.total.begin(), rebuilt.total.end(), device.states().total.begin()));
        for (std::int64_t i = 0; i < one.B * one.K; ++i)
            CHECK(device.states().similarity[i] == doctest::Approx(rebuilt.similarity[i]));
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
    std::vector<KickMove> trail(4);
    KickControl control{};
    KickResult result{};
    kick_block(device.block(), one.tables, device.states().view(), device.copy(0), device.scratch(),
               control, trail.data(), 4, 1, 0, result);
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
