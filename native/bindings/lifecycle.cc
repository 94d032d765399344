// The start of the engine from the package's settings, its end, and progress in between. With the
// interpreter's lock (GIL) held, which flush() gives back while it waits.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/checks.h"
#include "bindings/detour_warnings.h"
#include "bindings/finalize.h"
#include "bindings/fork.h"
#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "bindings/notices.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// The ranges of the numbers were checked by the package's config module.
Settings read_settings(const nb::dict& config) {
  Settings settings;
  for (const auto& [key, value] : config) {
    const auto name = nb::cast<std::string>(key);
    if (nb::isinstance<nb::str>(value)) {
      settings.set(name, nb::cast<std::string>(value));
    } else {
      settings.set(name, nb::cast<std::int64_t>(nb::int_(value)));
    }
  }
  return settings;
}

EngineConfig read_config(const nb::dict& config) {
  EngineConfig engine_config;
  const Settings settings = read_settings(config);
  ProtocolLimits& limits = engine_config.limits;
  settings.read("eager_limit_bytes", limits.eager_bytes);
  settings.read("eager_limit_bytes", limits.unmapped_eager_bytes);
  settings.read("eager_limit_bytes", limits.far_eager_bytes);
  settings.read("unexpected_limit_bytes", limits.unexpected_bytes);
  auto scaled = [&](const char* name, std::uint64_t unit, std::uint64_t& into) {
    if (const auto value = settings.number(name)) into = static_cast<std::uint64_t>(*value) * unit;
  };
  scaled("spin_us", 1000, engine_config.spin_ns);
  scaled("timeout_ms", 1'000'000, engine_config.timeout_ns);
  scaled("finalize_timeout_ms", 1'000'000, engine_config.finalize_timeout_ns);
  engine_config.progress_thread = settings.flag("progress_thread");
  engine_config.pool = &process_pool();
  engine_config.lanes = settings.list("lanes");
  engine_config.settings = settings;
  return engine_config;
}

void start(nb::dict config) {
  if (runtime().engine != nullptr) return;
  if (config.contains("memory_keep_bytes")) {
    process_pool().set_keep_bytes(nb::cast<std::uint64_t>(config["memory_keep_bytes"]));
  }
  auto engine = Engine::create(read_config(config));
  if (!engine) throw std::runtime_error(engine.failure().message);
  runtime().engine = std::move(engine).value();
  warn_of_detours(*runtime().engine);
  finalize_at_exit();
  guard_forks();
}

void finalize() {
  require(finalize_engine());
}

bool flush(int timeout_ms) {
  if (runtime().engine == nullptr) return true;
  bool done = false;
  {
    const InterpreterUnlocked unlocked;
    done = runtime().engine->flush(static_cast<std::uint64_t>(timeout_ms) * 1'000'000u);
  }
  require(PyErr_CheckSignals() == 0);
  return done;
}

}  // namespace

void define_lifecycle(nb::module_& m) {
  m.def("start", &start, nb::sig("def start(config: dict[str, Any]) -> None"), "config"_a,
        "Start the engine of this process; again does nothing.");
  m.def(
      "leave_interpreter", [] { notices().close(); },
      "The interpreter is about to end: the engine's threads ask it for nothing any more.");
  m.def("finalize", &finalize,
        "Deliver what was sent, before MPI is finalized; no message is received any more.");
  m.def("set_exit_status", &set_exit_status, "status"_a,
        "The exit status of this process, if it is a forked child.");
  m.attr("LEFT_BEHIND") = kLeftBehind;
  m.def("left_behind", &left_behind,
        "Whether this process was forked from one that communicates, and so cannot.");
  m.def("flush", &flush, "timeout_ms"_a,
        "Wait until every buffered message was sent; False if it took longer.");
  m.def(
      "progress", [] { return runtime().engine != nullptr ? runtime().engine->progress() : 0u; },
      "Poll once; work done.");
}

}  // namespace mooncake_mpi::bindings
