#pragma once

#include <Python.h>

#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {

// Waits until `done()`. It polls a few microseconds with the GIL held, since taking it back costs
// more than most messages take; then it lets other threads run, and looks for signals every 50 ms
// and whenever one interrupts its sleep. False with a Python exception set (KeyboardInterrupt).
template <class Done>
bool wait_until(Done&& done) {
  Engine& engine = *runtime().engine;
  constexpr int kTurnsWithGil = 64;
  if (done() || engine.spin(done, engine.oversubscribed() ? 4 : kTurnsWithGil)) {
    engine.leave(nullptr);
    return true;
  }
  constexpr std::uint64_t kSignalCheckNs = 50'000'000;
  for (;;) {
    PyThreadState* thread = PyEval_SaveThread();
    const WaitResult result = engine.wait(done, kSignalCheckNs);
    PyEval_RestoreThread(thread);
    if (result == WaitResult::kDone) return true;
    if (PyErr_CheckSignals() != 0) return false;
  }
}

// Finished or interrupted: a wait for it is over.
inline bool is_done(const Operation& operation) noexcept {
  return operation.done.load(std::memory_order_acquire) != 0;
}

}  // namespace mooncake_mpi::bindings
