#include <doctest/doctest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"

using namespace cliquesim;

TEST_CASE("parallel_for visits every index once, many jobs on one pool") {
    for (int threads : {1, 2, 4}) {
        ThreadPool pool(Context{threads, nullptr});
        for (std::int64_t count : {0, 1, 2, 7, 1000}) {
            for (std::int64_t grain : {1, 3, 2000}) {
                std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
                pool.parallel_for(
                    count, [&](std::int64_t i, int) { ++visits[static_cast<std::size_t>(i)]; },
                    grain);
                for (auto& visit : visits) CHECK(visit == 1);
            }
        }
    }
}

TEST_CASE("a task's exception is rethrown and the pool stays usable") {
    ThreadPool pool(Context{3, nullptr});
    CHECK_THROWS_AS(pool.parallel_for(100,
                                      [](std::int64_t i, int) {
                                          if (i == 42) throw std::runtime_error("42");
                                      }),
                    std::runtime_error);
    std::atomic<int> sum{0};
    pool.parallel_for(10, [&](std::int64_t i, int) { sum += static_cast<int>(i); });
    CHECK(sum == 45);
}

namespace {
struct Stop final : Monitor {
    void check() override { throw Interrupted(); }
};
}  // namespace

TEST_CASE("the monitor interrupts a long job") {
    Stop monitor;
    ThreadPool pool(Context{2, &monitor});
    CHECK_THROWS_AS(pool.parallel_for(100000,
                                      [](std::int64_t, int) {
                                          std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                      }),
                    Interrupted);
}
