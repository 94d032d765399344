#pragma once

// Waits of Python's calls in the engine, and what a long one says of itself. Called with the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.

#include <Python.h>

#include "bindings/interpreter_lock.h"
#include "bindings/notices.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {

// When to look next whether the message is in the MPI library, and what was found there.
struct LibraryLook {
  std::uint64_t next_ns = 0;  // 0: not yet known
  LibraryMessage found;
};

// What a call that has waited for a while says of itself, until it returns.
class LongWait {
 public:
  LongWait() = default;
  // A part of a wait, of which `look` belongs to all parts.
  explicit LongWait(LibraryLook& look) : look_(look) {}
  ~LongWait();
  LongWait(const LongWait&) = delete;
  LongWait& operator=(const LongWait&) = delete;

  // After each part of the wait that ended without what was waited for: `describe(record)` fills in
  // the rest of the record at the first of them. False with the exception set when the time that
  // the settings allow is over.
  template <class Describe>
  bool go_on(std::uint64_t waited_ns, Describe&& describe) {
    if (id_ == 0) {
      WaitRecord record;
      record.since_ns = now_ns() - waited_ns;
      describe(record);
      begin(record);
    }
    return in_time();
  }

 private:
  void begin(const WaitRecord& record);
  bool in_time();
  bool look_in_library();

  std::uint64_t id_ = 0;  // 0: the engine has not been told
  std::uint64_t since_ns_ = 0;
  LibraryLook own_look_;
  LibraryLook& look_ = own_look_;
};

// Raises ERR_PENDING: `seconds` have passed. Says on standard error what everything waits for.
bool raise_timeout(std::uint64_t waited_ns);

// Waits until `done()`. It polls a few microseconds with the GIL held, since taking it back costs
// more than most messages take; then it lets other threads run, and looks for signals every 50 ms
// and whenever one interrupts its sleep. False with a Python exception set (KeyboardInterrupt, or
// the error of a timeout).
template <class Done, class Describe>
bool wait_until(Done&& done, Describe&& describe) {
  Engine& engine = *runtime().engine;
  constexpr unsigned kTurnsWithGil = 64;
  if (done() || engine.spin(done, engine.oversubscribed() ? 4 : kTurnsWithGil)) {
    engine.leave(nullptr);
    return true;
  }
  constexpr std::uint64_t kSignalCheckNs = 50'000'000;
  constexpr std::uint64_t kStarvedNs = 1'000'000'000;  // others may give memory back
  LongWait wait;
  for (bool again = false;; again = true) {
    WaitResult result;
    {
      const InterpreterUnlocked unlocked;
      result = engine.wait(done, kSignalCheckNs, again);
    }
    notices().settle();
    if (result == WaitResult::kDone) return true;
    if (notices().raise_interruption()) return false;
    if (PyErr_CheckSignals() != 0) return false;
    if (engine.starved_ns() > kStarvedNs) return PyErr_NoMemory() != nullptr;
    if (!wait.go_on(result == WaitResult::kTimeout ? kSignalCheckNs : 0, describe)) return false;
  }
}

// For a call that waits for one operation.
template <class Done>
bool wait_until(Done&& done, const char* call, const Operation* operation) {
  return wait_until(done, [&](WaitRecord& record) {
    record.call = call;
    if (operation != nullptr) record.operations.push_back(operation->id());
  });
}

// A call is left with an exception, but something of it is under way: waits a while until `left()`.
// False where a peer has stopped in the middle.
template <class Left>
bool wait_to_leave(Left&& left) {
  constexpr std::uint64_t kPatienceNs = 10'000'000'000;
  const InterpreterUnlocked unlocked;
  const std::uint64_t start = now_ns();
  for (std::uint64_t waited = 0; waited < kPatienceNs; waited = now_ns() - start) {
    if (runtime().engine->wait(left, kPatienceNs - waited) == WaitResult::kDone) return true;
  }
  return false;
}

// Finished or interrupted: a wait for it is over.
inline bool is_done(const Operation& operation) noexcept {
  return operation.done.load(std::memory_order_acquire) != 0;
}

}  // namespace mooncake_mpi::bindings
