#include "common/thread_pool.hpp"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>

namespace cliquesim {

namespace {
constexpr auto check_interval = std::chrono::milliseconds(50);
}

int available_processors() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

struct ThreadPool::Job {
    std::int64_t count;
    std::int64_t grain;
    TaskRef task;
    double progress_from;
    double progress_to;
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> cancelled{false};
    std::mutex error_mutex;
    std::exception_ptr error;

    void fail(std::exception_ptr exception) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::move(exception);
        cancelled = true;
    }
};

ThreadPool::ThreadPool(const Context& context)
    : monitor_(context.monitor), last_check_(std::chrono::steady_clock::now()) {
    const int total = context.num_threads > 0 ? context.num_threads : available_processors();
    workers_.reserve(static_cast<std::size_t>(total - 1));
    for (int worker = 1; worker < total; ++worker)
        workers_.emplace_back([this, worker] { worker_loop(worker); });
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : workers_) thread.join();
}

void ThreadPool::check() {
    const auto now = std::chrono::steady_clock::now();
    if (!monitor_ || now - last_check_ < check_interval) return;
    last_check_ = now;
    monitor_->check();
}

void ThreadPool::progress(double fraction) {
    if (monitor_) monitor_->progress(std::clamp(fraction, 0.0, 1.0));
}

void ThreadPool::take_blocks(Job& job, int worker, ThreadPool* caller) {
    try {
        while (!job.cancelled) {
            const std::int64_t begin = job.next.fetch_add(job.grain);
            if (begin >= job.count) break;
            const std::int64_t end = std::min(begin + job.grain, job.count);
            for (std::int64_t index = begin; index < end; ++index) job.task(index, worker);
            if (!caller) continue;
            const auto last = caller->last_check_;
            caller->check();
            if (caller->last_check_ != last && job.progress_to > job.progress_from) {
                const double share = static_cast<double>(end) / static_cast<double>(job.count);
                caller->progress(job.progress_from + share * (job.progress_to - job.progress_from));
            }
        }
    } catch (...) {
        job.fail(std::current_exception());
    }
}

void ThreadPool::worker_loop(int worker) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return stopping_ || (job_ && generation_ != seen); });
        if (stopping_) return;
        seen = generation_;
        Job& job = *job_;
        ++active_;
        lock.unlock();
        take_blocks(job, worker, nullptr);
        lock.lock();
        if (--active_ == 0) finished_.notify_one();
    }
}

void ThreadPool::parallel_for(std::int64_t count, TaskRef task, std::int64_t grain,
                              double progress_from, double progress_to) {
    if (count <= 0) return;
    Job job{count, std::max<std::int64_t>(grain, 1), task, progress_from, progress_to, {}, {}, {},
            {}};
    const bool alone = workers_.empty() || count <= job.grain;
    if (!alone) {
        {
            const std::lock_guard lock(mutex_);
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
    }
    take_blocks(job, 0, this);
    if (!alone) {
        std::unique_lock lock(mutex_);
        job_ = nullptr;  // a worker that has not woken up yet must not touch a finished job
        while (!finished_.wait_for(lock, check_interval, [&] { return active_ == 0; })) {
            lock.unlock();
            try {
                check();
            } catch (...) {
                job.fail(std::current_exception());
            }
            lock.lock();
        }
    }
    if (job.error) std::rethrow_exception(job.error);
    if (progress_to > progress_from) progress(progress_to);
}

}  // namespace cliquesim
