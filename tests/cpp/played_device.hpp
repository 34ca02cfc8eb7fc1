// Instances of Eq. (1), and a device whose blocks one thread plays, for the tests of the kicks.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "batches/batches.hpp"
#include "batches/discrete_state.hpp"
#include "batches/kick_round.hpp"
#include "common/context.hpp"

namespace cliquesim::test {

// All threads of a block, one after the other in every phase.
struct PlayedBlock {
    std::int64_t threads;
    KickCandidate* candidates;
    std::int64_t size() const { return threads; }
    template <typename Body>
    void all(const Body& body) {
        for (std::int64_t thread = 0; thread < threads; ++thread) body(thread, threads);
    }
};

inline std::vector<std::int64_t> shuffled(std::int64_t n, std::mt19937& random) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), random);
    return all;
}

struct Instance {
    std::int64_t B, K, N, r;
    std::vector<double> similarity, weights, batch_gain, total_gain;
    std::vector<std::int64_t> offsets{0}, indices, pair_offsets{0}, others, shared_offsets{0},
        shared;
    Coverage by_sample;
    BatchProblem problem;
    KickTables tables{};

    // `ties`: similarities of few values alone decide.
    Instance(std::int64_t B_, std::int64_t K_, std::int64_t N_, std::int64_t r_, unsigned seed,
             bool ties = false)
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
                similarity.push_back(ties ? std::round(sum / dimensions) : sum / dimensions);
            }
        for (std::int64_t k = 0; k < K; ++k) {
            auto all = shuffled(N, random);
            const auto size = 2 + static_cast<std::int64_t>(random() % 6);
            std::sort(all.begin(), all.begin() + size);
            indices.insert(indices.end(), all.begin(), all.begin() + size);
            offsets.push_back(std::ssize(indices));
        }
        for (std::int64_t n = 0; n < N; ++n)
            weights.push_back(1 + static_cast<double>(random() % 3));
        problem.coverage = {K, N, offsets, indices, weights};
        problem.similarity = {similarity.data(), K, K};
        problem.lambda1 = ties ? 0 : 0.3;
        problem.lambda2 = ties ? 0 : 0.8;
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
        tables.cliques = K;
        tables.samples = N;
        tables.batches = B;
        tables.per_batch = r;
        tables.tolerance = reference.tolerance;
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
inline void fill(const Instance& one, States& states) {
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

inline void check_consistent(const Instance& one, const KickState& state) {
    States rebuilt(one, 1);
    std::copy_n(state.members, one.B * one.r, rebuilt.members.begin());
    fill(one, rebuilt);
    CHECK(std::equal(rebuilt.selected.begin(), rebuilt.selected.end(), state.selected));
    CHECK(std::equal(rebuilt.total.begin(), rebuilt.total.end(), state.total));
    for (std::size_t i = 0; i < rebuilt.similarity.size(); ++i)
        CHECK(state.similarity[i] == doctest::Approx(rebuilt.similarity[i]));
}

inline std::vector<std::int64_t> random_members(const Instance& one, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::int64_t> members;
    for (std::int64_t b = 0; b < one.B; ++b) {
        const auto all = shuffled(one.K, random);
        members.insert(members.end(), all.begin(), all.begin() + one.r);
    }
    return members;
}

inline double objective(const Instance& one, const std::int32_t* members) {
    std::vector<double> X(static_cast<std::size_t>(one.B * one.K));
    for (std::int64_t i = 0; i < one.B * one.r; ++i) X[i / one.r * one.K + members[i]] = 1;
    const auto terms = objective_terms(one.problem, {X.data(), one.B, one.K}, Context{1, nullptr});
    return terms.similarity - one.problem.lambda1 * terms.batch_coverage -
           one.problem.lambda2 * terms.total_coverage;
}

// A local optimum to kick.
inline DiscreteBatches optimum(const Instance& one, std::int64_t kicks) {
    const auto start = random_members(one, 1);
    return swap_batches(one.problem, {start.data(), 1, one.B * one.r}, one.r, {kicks, 3, 0},
                        Context{1, nullptr});
}

inline constexpr std::int32_t capacity = 64;

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

}  // namespace cliquesim::test
