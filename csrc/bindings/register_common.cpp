#include <atomic>
#include <thread>

#include "bindings/arrays.hpp"
#include "bindings/stages.hpp"
#include "common/cpu_features.hpp"
#include "common/freed_memory.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim::bindings {

void register_common(py::module_& module) {
    module.def("best_simd_level", &best_simd_level);
    module.def("available_processors", &available_processors);
    module.def("keep_freed_memory", &keep_freed_memory, py::arg("keep"));
    // For the tests of interruption, progress and exceptions in workers.
    module.def(
        "_busy_loop",
        [](std::int64_t count, std::int64_t fail_at, int num_threads, const py::object& progress) {
            return run_kernel(num_threads, progress, [&](const Context& context) {
                ThreadPool pool(context);
                std::atomic<std::int64_t> sum{0};
                pool.parallel_for(
                    count,
                    [&](std::int64_t index, int) {
                        if (index == fail_at) throw std::runtime_error("failed in a worker");
                        std::this_thread::sleep_for(std::chrono::milliseconds(10));
                        sum += index;
                    },
                    1, 0.0, 1.0);
                return sum.load();
            });
        },
        py::arg("count"), py::arg("fail_at"), py::arg("num_threads"), py::arg("progress"));
}

}  // namespace cliquesim::bindings
