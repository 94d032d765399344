#include "bindings/waiting.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace mooncake_mpi::bindings {

LongWait::~LongWait() {
  if (id_ != 0) runtime().engine->end_wait(id_);
}

void LongWait::begin(const WaitRecord& record) {
  constexpr std::uint64_t kFirstLookNs = 1'000'000'000;
  since_ns_ = record.since_ns;
  if (look_.next_ns == 0) look_.next_ns = since_ns_ + kFirstLookNs;
  id_ = runtime().engine->begin_wait(record);
  if (look_.found.found) runtime().engine->found_in_library(id_, look_.found);
}

bool LongWait::in_time() {
  runtime().engine->fail_undeliverable();
  constexpr std::uint64_t kNextLookNs = 5'000'000'000;
  const std::uint64_t limit = runtime().engine->config().timeout_ns;
  const std::uint64_t now = now_ns();
  const bool over = limit != 0 && now - since_ns_ >= limit;
  if (over || now >= look_.next_ns) {
    look_.next_ns = now + kNextLookNs;
    if (!look_in_library()) return false;
  }
  return !over || raise_timeout(now - since_ns_);
}

// Code that calls the library sends what nobody finds here: the report of a hang says so. False
// with an exception set: that of a signal's handler, which came meanwhile.
bool LongWait::look_in_library() {
  Engine& engine = *runtime().engine;
  const Constants& constants = runtime().constants;
  PyObject* hook = runtime().hooks.look_in_library;
  if (hook == nullptr) return true;
  for (const Awaited& awaited : engine.awaited(id_)) {
    PyObject* found = with_interpreter([&] {
      return PyObject_CallFunction(
          hook, "Iii", awaited.context_number,
          awaited.source == kAnySource ? constants.any_source : awaited.source,
          awaited.tag == kAnyTag ? constants.any_tag : awaited.tag);
    });
    if (found == nullptr) return false;
    LibraryMessage message;
    unsigned long long bytes = 0;
    message.found = found != Py_None &&
                    PyArg_ParseTuple(found, "iiK", &message.source, &message.tag, &bytes) != 0;
    message.bytes = bytes;
    Py_DECREF(found);
    look_.found = message;
    engine.found_in_library(id_, message);
    if (message.found) return true;
  }
  return true;
}

bool raise_timeout(std::uint64_t waited_ns) {
  const std::string text = runtime().engine->explain();
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  char reason[64];
  std::snprintf(reason, sizeof reason, "timeout: nothing came in %.1f s (MOONCAKE_MPI_TIMEOUT_S)\n",
                static_cast<double>(waited_ns) / 1e9);
  raise_error("ERR_PENDING", (reason + text).c_str());
  return false;
}

}  // namespace mooncake_mpi::bindings
