#include "bindings/finalize.h"

#include <unistd.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "bindings/interpreter_lock.h"
#include "bindings/notices.h"
#include "bindings/runtime.h"
#include "bindings/stream_order.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr std::uint64_t kSignalCheckNs = 50'000'000;
constexpr std::uint64_t kSayAfterNs = 5'000'000'000;

void say(const std::string& what, const std::string& details) {
  const std::string text = "mooncake_mpi: " + what + "\n" + details;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

bool deliver(Engine& engine, bool interpreter) {
  const std::uint64_t limit_ns = engine.config().finalize_timeout_ns;
  const std::uint64_t start = now_ns();
  bool said = false;
  for (bool again = false;; again = true) {
    WaitResult result;
    {
      std::optional<InterpreterUnlocked> unlocked;
      if (interpreter) unlocked.emplace();
      result = engine.deliver(kSignalCheckNs, again);
    }
    if (result == WaitResult::kDone) return true;
    if (interpreter && PyErr_CheckSignals() != 0) return false;
    const std::uint64_t waited = now_ns() - start;
    if (limit_ns != 0 && waited >= limit_ns) {
      say("the program ends, and these messages are lost (MOONCAKE_MPI_FINALIZE_TIMEOUT_S)",
          engine.explain());
      return true;
    }
    if (!said && waited >= kSayAfterNs) {
      said = true;
      say("the program ends when its messages have been received "
          "(MOONCAKE_MPI_FINALIZE_TIMEOUT_S sets a limit)",
          engine.explain());
    }
  }
}

bool finalize(bool interpreter) {
  static bool finalized = false;
  Runtime& state = runtime();
  if (finalized || state.engine == nullptr || !state.engine->in_own_process()) return true;
  finalized = true;
  state.engine->refuse_messages();
  const bool delivered = deliver(*state.engine, interpreter);
  if (interpreter) notices().settle();
  state.engine->end();
  open_all_gates();  // of messages that will not come any more
  // Other threads may still be inside a call and the peers' rings are mapped: the engine itself
  // stays until the process ends.
  return delivered;
}

}  // namespace

bool finalize_engine() {
  return finalize(true);
}

// mpi4py has registered its own before: the last one is called first.
void finalize_at_exit() {
  if (Py_AtExit([] { finalize(false); }) != 0) {
    throw std::runtime_error("Python takes no more exit functions");
  }
}

}  // namespace mooncake_mpi::bindings
