// How a kernel runs: its thread count, and the caller's hook for interruption and progress.
#pragma once

namespace cliquesim {

// Called on the calling thread only, a few times per second at most.
class Monitor {
  public:
    virtual ~Monitor() = default;
    // Throws Interrupted when the caller wants to stop.
    virtual void check() {}
    // `fraction` of the work that is done, 0 to 1.
    virtual void progress(double fraction) { static_cast<void>(fraction); }
};

struct Context {
    int num_threads = 0;  // 0: all processors that this process may use
    Monitor* monitor = nullptr;
};

}  // namespace cliquesim
