#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>

#include "batches/batches.hpp"
#include "batches/discrete_state.hpp"
#include "batches/split_mix.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

using Clock = std::chrono::steady_clock;

struct Move {
    std::int64_t batch, slot, out;
};

// Swap descent and kicks of one start, cut into slices so that the caller stays interruptible.
class Search {
  public:
    Search(const DiscreteTables& tables, std::span<const std::int64_t> cliques,
           const SwapOptions& options, std::uint64_t seed)
        : tables_(tables), state_(tables), kicks_left_(options.kicks), generator_(seed) {
        for (std::int64_t b = 0; b < tables.batches; ++b) {
            for (std::int64_t slot = 0; slot < tables.per_batch; ++slot) {
                state_.add(b, cliques[b * tables.per_batch + slot]);
            }
        }
    }

    bool finished() const { return finished_; }
    std::int64_t swaps() const { return swaps_; }
    const DiscreteState& state() const { return state_; }

    // Looks at up to `visits` batches.
    void run(std::int64_t visits) {
        while (!finished_ && visits-- > 0) {
            const Exchange best = state_.best_exchange(batch_);
            if (best.change < -tables_.tolerance) {
                apply(batch_, best.slot, best.in);
                change_ += best.change;
                ++swaps_;
                idle_ = 0;
                continue;  // the same batch again, until nothing in it helps
            }
            batch_ = (batch_ + 1) % tables_.batches;
            if (++idle_ >= tables_.batches) local_optimum();
        }
    }

    // Undoes a kick whose descent was cut short.
    void settle() {
        if (!finished_ && kicked_ && change_ >= 0) undo();
    }

  private:
    void apply(std::int64_t b, std::int64_t slot, std::int64_t in) {
        if (kicked_) trail_.push_back({b, slot, state_.member(b, slot)});
        state_.exchange(b, slot, in);
    }

    void undo() {
        for (auto move = trail_.rbegin(); move != trail_.rend(); ++move) {
            state_.exchange(move->batch, move->slot, move->out);
        }
    }

    void local_optimum() {
        if (kicked_ && change_ >= -tables_.tolerance) undo();
        trail_.clear();
        change_ = 0;
        idle_ = 0;
        const std::int64_t cliques = tables_.problem.coverage.cliques;
        if (kicks_left_ == 0 || tables_.per_batch == cliques) {
            finished_ = true;
            return;
        }
        --kicks_left_;
        kicked_ = true;
        // Two or three members of one batch, or of two, give way to random cliques.
        const std::int64_t exchanges = 2 + generator_.below(2);
        std::int64_t b = generator_.below(tables_.batches);
        for (std::int64_t i = 0; i < exchanges; ++i) {
            if (generator_.below(3) == 0) b = generator_.below(tables_.batches);
            kick(b, cliques);
        }
        batch_ = b;
    }

    void kick(std::int64_t b, std::int64_t cliques) {
        const std::int64_t slot = generator_.below(tables_.per_batch);
        std::int64_t in = generator_.below(cliques);
        while (state_.selected(b, in)) in = (in + 1) % cliques;
        change_ += state_.change_of(b, slot, in);
        apply(b, slot, in);
    }

    const DiscreteTables& tables_;
    DiscreteState state_;
    std::int64_t kicks_left_;
    SplitMix64 generator_;
    std::vector<Move> trail_;
    std::int64_t batch_ = 0, idle_ = 0, swaps_ = 0;
    double change_ = 0;  // of Eq. (1) since the last local optimum
    bool kicked_ = false, finished_ = false;
};

DiscreteBatches empty_result(std::int64_t starts, std::int64_t batches, std::int64_t per_batch) {
    DiscreteBatches result;
    result.starts = starts;
    result.batches = batches;
    result.cliques_per_batch = per_batch;
    result.cliques.resize(starts * batches * per_batch);
    result.objectives.resize(starts);
    result.swaps.assign(starts, 0);
    return result;
}

void store(const DiscreteState& state, std::int64_t start, DiscreteBatches& result) {
    const std::int64_t r = result.cliques_per_batch;
    std::int64_t* out = result.cliques.data() + start * result.batches * r;
    for (std::int64_t b = 0; b < result.batches; ++b, out += r) {
        for (std::int64_t slot = 0; slot < r; ++slot) out[slot] = state.member(b, slot);
        std::sort(out, out + r);
    }
    result.objectives[start] = state.objective();
}

void check_starts(MatrixView<const std::int64_t> starts, std::int64_t per_batch,
                  std::int64_t cliques) {
    require(per_batch >= 1 && per_batch <= cliques, "cliques_per_batch must be in [1, K]");
    require(starts.cols >= per_batch && starts.cols % per_batch == 0,
            "every start must hold whole batches");
    std::vector<std::int64_t> last_batch(cliques);
    for (std::int64_t t = 0; t < starts.rows; ++t) {
        std::fill(last_batch.begin(), last_batch.end(), -1);
        for (std::int64_t i = 0; i < starts.cols; ++i) {
            const std::int64_t k = starts(t, i);
            require(k >= 0 && k < cliques, "a start has a clique out of range");
            require(last_batch[k] != i / per_batch, "a start has a clique twice in one batch");
            last_batch[k] = i / per_batch;
        }
    }
}

}  // namespace

DiscreteBatches greedy_batches(const BatchProblem& problem, MatrixView<const std::int64_t> first,
                               std::int64_t cliques_per_batch, const Context& context) {
    const std::int64_t cliques = problem.coverage.cliques;
    require(first.rows >= 1 && first.cols >= 1, "there must be at least one start and one batch");
    require(cliques_per_batch >= 1 && cliques_per_batch <= cliques,
            "cliques_per_batch must be in [1, K]");
    for (std::int64_t t = 0; t < first.rows; ++t) {
        for (const std::int64_t k : first.row_span(t)) {
            require(k >= -1 && k < cliques, "a start has a clique out of range");
        }
    }
    const DiscreteTables tables(problem, first.cols, cliques_per_batch);
    DiscreteBatches result = empty_result(first.rows, first.cols, cliques_per_batch);
    ThreadPool pool(context);
    std::vector<std::unique_ptr<DiscreteState>> states(first.rows);
    // One round per slot: a block of work stays short, and the monitor is asked in between.
    for (std::int64_t slot = 0; slot < cliques_per_batch; ++slot) {
        for (std::int64_t b0 = 0; b0 < first.cols; b0 += 16) {
            const std::int64_t b1 = std::min(b0 + 16, first.cols);
            pool.parallel_for(first.rows, [&](std::int64_t t, int) {
                if (!states[t]) states[t] = std::make_unique<DiscreteState>(tables);
                for (std::int64_t b = b0; b < b1; ++b) {
                    const bool given = slot == 0 && first(t, b) >= 0;
                    states[t]->add(b, given ? first(t, b) : states[t]->best_addition(b));
                }
            });
        }
    }
    for (std::int64_t t = 0; t < first.rows; ++t) store(*states[t], t, result);
    return result;
}

DiscreteBatches swap_batches(const BatchProblem& problem, MatrixView<const std::int64_t> starts,
                             std::int64_t cliques_per_batch, const SwapOptions& options,
                             const Context& context) {
    check_starts(starts, cliques_per_batch, problem.coverage.cliques);
    const auto begin = Clock::now();
    const std::int64_t batches = starts.cols / cliques_per_batch;
    const DiscreteTables tables(problem, batches, cliques_per_batch);
    DiscreteBatches result = empty_result(starts.rows, batches, cliques_per_batch);
    ThreadPool pool(context);
    std::vector<std::unique_ptr<Search>> searches(starts.rows);
    pool.parallel_for(starts.rows, [&](std::int64_t t, int) {
        searches[t] =
            std::make_unique<Search>(tables, starts.row_span(t), options, options.seed + 7919 * t);
    });
    const auto nnz = static_cast<std::int64_t>(problem.coverage.indices.size());
    const std::int64_t visit =
        problem.coverage.samples + 2 * nnz + cliques_per_batch * problem.coverage.cliques;
    const std::int64_t visits = std::max<std::int64_t>(1, 20'000'000 / visit);
    std::vector<std::int64_t> running(starts.rows);
    std::iota(running.begin(), running.end(), 0);
    while (!running.empty()) {
        const std::chrono::duration<double> elapsed = Clock::now() - begin;
        if (options.time_limit > 0 && elapsed.count() > options.time_limit) {
            result.complete = false;
            break;
        }
        pool.parallel_for(static_cast<std::int64_t>(running.size()),
                          [&](std::int64_t i, int) { searches[running[i]]->run(visits); });
        pool.check();
        std::erase_if(running, [&](std::int64_t t) { return searches[t]->finished(); });
    }
    for (std::int64_t t = 0; t < starts.rows; ++t) {
        searches[t]->settle();
        result.swaps[t] = searches[t]->swaps();
        store(searches[t]->state(), t, result);
    }
    return result;
}

}  // namespace cliquesim
