// A small thread pool, made per kernel call. No OpenMP: a second OpenMP runtime beside torch's
// oversubscribes the machine.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "common/context.hpp"

namespace cliquesim {

// Processors that this process may run on (the affinity mask, not the machine).
int available_processors();

// A callable of (index, worker) that the caller keeps alive: parallel_for allocates nothing.
class TaskRef {
  public:
    template <typename Task>
        requires(!std::is_same_v<std::remove_cvref_t<Task>, TaskRef>)
    TaskRef(const Task& task)
        : object_(std::addressof(task)),
          call_([](const void* object, std::int64_t index, int worker) {
              (*static_cast<const Task*>(object))(index, worker);
          }) {}

    void operator()(std::int64_t index, int worker) const { call_(object_, index, worker); }

  private:
    const void* object_;
    void (*call_)(const void*, std::int64_t, int);
};

class ThreadPool {
  public:
    explicit ThreadPool(const Context& context);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return static_cast<int>(workers_.size()) + 1; }

    // Calls task(index, worker) for every index in [0, count), worker in [0, size()). Indices are
    // handed out dynamically in blocks of `grain`, so a task's result must depend on its index
    // alone: that is what makes results bit-identical for any thread count. The calling thread
    // takes part, and between blocks asks the monitor; keep a block well under a second. The first
    // exception of a task stops the rest and is rethrown here.
    //
    // The monitor's progress goes from `progress_from` to `progress_to`; no report if both are
    // equal.
    void parallel_for(std::int64_t count, TaskRef task, std::int64_t grain = 1,
                      double progress_from = 0, double progress_to = 0);

    // For kernels with serial stretches: asks the monitor if it was not asked for 50 ms.
    void check();
    void progress(double fraction);

  private:
    struct Job;
    void worker_loop(int worker);
    static void take_blocks(Job& job, int worker, ThreadPool* caller);

    Monitor* monitor_;
    std::chrono::steady_clock::time_point last_check_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    Job* job_ = nullptr;
    std::uint64_t generation_ = 0;
    int active_ = 0;
    bool stopping_ = false;
};

}  // namespace cliquesim
