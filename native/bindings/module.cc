#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/buffer_spec.h"
#include "bindings/communicator.h"
#include "bindings/dlpack_tensor.h"
#include "bindings/finalize.h"
#include "bindings/fork.h"
#include "bindings/inspection.h"
#include "bindings/methods.h"
#include "bindings/notices.h"
#include "bindings/numpy_array.h"
#include "bindings/owned_buffer.h"
#include "bindings/primitives.h"
#include "bindings/request.h"
#include "bindings/runtime.h"
#include "bindings/shared_memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    std::string part = text.substr(at, comma - at);
    std::erase(part, ' ');
    if (!part.empty()) parts.push_back(std::move(part));
    at = comma + 1;
  }
  return parts;
}

// The ranges of the numbers were checked by the package's config module.
void read_verbs(const nb::dict& config, verbs::Config& verbs) {
  auto read = [&]<class Number>(const char* key, Number& number) {
    if (config.contains(key)) number = static_cast<Number>(nb::cast<std::int64_t>(config[key]));
  };
  if (config.contains("verbs_devices")) {
    verbs.devices = split(nb::cast<std::string>(config["verbs_devices"]));
  }
  read("verbs_gid_index", verbs.gid_index);
  read("verbs_mtu_bytes", verbs.mtu_bytes);
  read("verbs_traffic_class", verbs.traffic_class);
  read("verbs_service_level", verbs.service_level);
  read("verbs_fragment_bytes", verbs.fragment_bytes);
  read("verbs_registered_bytes", verbs.cached_bytes);
  if (config.contains("verbs_timeout_s")) {
    verbs.timeout_ns = nb::cast<std::uint64_t>(config["verbs_timeout_s"]) * 1'000'000'000u;
  }
}

void start(nb::dict config) {
  if (runtime().engine != nullptr) return;
  EngineConfig engine_config;
  auto number = [&](const char* key, std::uint64_t fallback) {
    return config.contains(key) ? nb::cast<std::uint64_t>(config[key]) : fallback;
  };
  auto flag = [&](const char* key) { return !config.contains(key) || nb::cast<bool>(config[key]); };
  engine_config.limits.eager_bytes = number("eager_limit_bytes", engine_config.limits.eager_bytes);
  engine_config.limits.far_eager_bytes =
      number("eager_limit_bytes", engine_config.limits.far_eager_bytes);
  engine_config.limits.unexpected_bytes =
      number("unexpected_limit_bytes", engine_config.limits.unexpected_bytes);
  engine_config.spin_ns = number("spin_us", engine_config.spin_ns / 1000) * 1000;
  engine_config.timeout_ns = number("timeout_ms", 0) * 1'000'000u;
  engine_config.finalize_timeout_ns = number("finalize_timeout_ms", 0) * 1'000'000u;
  engine_config.cross_memory = flag("cma");
  engine_config.progress_thread = flag("progress_thread");
  engine_config.mapping = flag("mapping");
  if (config.contains("memory_keep_bytes")) {
    process_pool().set_keep_bytes(nb::cast<std::uint64_t>(config["memory_keep_bytes"]));
  }
  engine_config.pool = &process_pool();
  if (config.contains("lanes")) {
    const auto lanes = nb::cast<std::string>(config["lanes"]);
    engine_config.shm = lanes.empty() || lanes.find("shm") != std::string::npos;
    engine_config.verbs = lanes.empty() || lanes.find("verbs") != std::string::npos;
  }
  read_verbs(config, engine_config.verbs_config);
  auto engine = Engine::create(engine_config);
  if (!engine) throw std::runtime_error(engine.failure().message);
  runtime().engine = std::move(engine).value();
  finalize_at_exit();
  guard_forks();
}

void finalize() {
  if (!finalize_engine()) throw nb::python_error();
}

void set_hooks(nb::callable resolve, nb::callable fill_status, nb::callable raise_error,
               nb::callable report_error, nb::object error_type, nb::callable look_in_library,
               nb::callable wait_all, nb::object request_type, nb::object persistent_type,
               nb::object status_type) {
  Hooks& hooks = runtime().hooks;
  hooks.resolve = resolve.release().ptr();
  hooks.fill_status = fill_status.release().ptr();
  hooks.raise_error = raise_error.release().ptr();
  hooks.report_error = report_error.release().ptr();
  hooks.error_type = error_type.release().ptr();
  hooks.look_in_library = look_in_library.release().ptr();
  hooks.wait_all = wait_all.release().ptr();
  hooks.request_type = request_type.release().ptr();
  hooks.persistent_type = persistent_type.release().ptr();
  hooks.status_type = status_type.release().ptr();
}

void install(nb::type_object type, Py_ssize_t slot_offset) {
  if (!install_methods(reinterpret_cast<PyTypeObject*>(type.ptr()), slot_offset)) {
    throw nb::python_error();
  }
}

// The context of a communicator that a method of the program's asks about.
Context& context_in_use(const Communicator& communicator) {
  if (!communicator.usable()) {
    raise_unusable();
    throw nb::python_error();
  }
  return communicator.context();
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The point-to-point engine of mooncake_mpi.";
  nb::set_leak_warnings(false);  // requests and communicators may outlive the interpreter's end

  nb::class_<Communicator>(m, "Communicator", "A communicator's matching space in the engine.",
                           nb::dynamic_attr())
      .def(nb::init<int, int, int>(), "rank"_a, "size"_a, "tag_ub"_a,
           "Allocate this process's context of a communicator of `size` ranks.")
      .def_prop_ro(
          "entry",
          [](const Communicator& self) {
            auto entry = self.entry();
            return nb::bytes(reinterpret_cast<const char*>(entry.data()), entry.size());
          },
          "This process's address, of the same length in every process: allgather it.")
      .def(
          "activate",
          [](Communicator& self, nb::bytes entries, std::string label) {
            self.activate(
                Bytes(reinterpret_cast<const std::byte*>(entries.c_str()), entries.size()),
                std::move(label));
          },
          "entries"_a, "label"_a = "",
          "Take the addresses of all ranks, concatenated in rank order; `label` is for people.")
      .def("inherit", &Communicator::inherit, "parent"_a, "ranks"_a, "label"_a = "",
           "Be a communicator of members of `parent`, by rank there, or of all; then join().")
      .def_prop_ro("number", &Communicator::number,
                   "Of this process's context: every member gives it to the others, for join().")
      .def("join", &Communicator::join, "numbers"_a,
           "After inherit(): take the members' numbers, in rank order.")
      .def("reshape", &Communicator::reshape, "rank"_a, "size"_a,
           "Before activate(): this process is `rank` of fewer members than it was made for.")
      .def("close", &Communicator::close, "The communicator was freed: later calls raise ERR_COMM.")
      .def(
          "failures",
          [](const Communicator& self) {
            context_in_use(self);
            return self.failures();
          },
          "The ranks that have failed, in the order of notice, and how many are acknowledged.")
      .def(
          "acknowledge",
          [](const Communicator& self, std::size_t count) {
            return runtime().engine->acknowledge(context_in_use(self), count);
          },
          "count"_a,
          "Receives from any source go on without the first `count` of them; how many are "
          "acknowledged now.")
      .def(
          "revoke",
          [](const Communicator& self) { runtime().engine->revoke(context_in_use(self)); },
          "Revoke the communicator at every rank.")
      .def_prop_ro(
          "revoked",
          [](const Communicator& self) { return runtime().engine->revoked(context_in_use(self)); },
          "Whether a rank has revoked the communicator.")
      .def_prop_ro("rank", &Communicator::rank)
      .def_prop_ro("size", &Communicator::size)
      .def_prop_ro("tag_ub", &Communicator::tag_ub);

  m.attr("ENTRY_BYTES") = wire::kAddressBytes;
  m.attr("Request") = nb::steal(create_request_type());
  m.attr("OwnedBuffer") = nb::steal(create_owned_buffer_type());

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
  m.def("set_hooks", &set_hooks,
        nb::sig(
            "def set_hooks(resolve: Callable[..., Any], fill_status: Callable[..., None], "
            "raise_error: Callable[[str, str], Any], report_error: Callable[..., Any], "
            "error_type: type, look_in_library: Callable[..., Any], wait_all: Callable[..., Any], "
            "request_type: type, "
            "persistent_type: type, status_type: type) -> None"),
        "resolve"_a, "fill_status"_a, "raise_error"_a, "report_error"_a, "error_type"_a,
        "look_in_library"_a, "wait_all"_a, "request_type"_a, "persistent_type"_a, "status_type"_a,
        "Set the package's callables and request classes.");
  m.def(
      "set_constants",
      [](int proc_null, int any_source, int any_tag, nb::dict error_classes) {
        Constants& constants = runtime().constants;
        constants.proc_null = proc_null;
        constants.any_source = any_source;
        constants.any_tag = any_tag;
        for (std::size_t i = 0; i < kErrors; ++i) {
          const nb::str name(error_name(static_cast<Error>(i)).data());
          constants.error_classes[i] = nb::cast<int>(error_classes[name]);
        }
      },
      nb::sig("def set_constants(proc_null: int, any_source: int, any_tag: int, "
              "error_classes: dict[str, int]) -> None"),
      "proc_null"_a, "any_source"_a, "any_tag"_a, "error_classes"_a,
      "Set the MPI library's values, and its error classes by name.");
  m.def(
      "error_names",
      [] {
        nb::list names;
        for (std::size_t i = 0; i < kErrors; ++i) {
          names.append(nb::str(error_name(static_cast<Error>(i)).data()));
        }
        return names;
      },
      nb::sig("def error_names() -> list[str]"),
      "The names of the error classes that the engine reports.");
  m.def(
      "learn_datatype",
      [](nb::object datatype, Py_ssize_t size) { learn_datatype(datatype.ptr(), size); },
      nb::sig("def learn_datatype(datatype: object, size: int) -> None"), "datatype"_a, "size"_a,
      "Read specifications with this object, `size` bytes without a gap, without asking again.");
  m.def(
      "learn_array_type",
      [](nb::object array, std::uint64_t address, std::uint64_t bytes, bool contiguous,
         bool writable, bool number) {
        return learn_array_type(array.ptr(), {address, bytes, contiguous, writable, number});
      },
      nb::sig("def learn_array_type(array: object, address: int, bytes: int, contiguous: bool, "
              "writable: bool, number: bool) -> bool"),
      "array"_a, "address"_a, "bytes"_a, "contiguous"_a, "writable"_a, "number"_a,
      "Read arrays of this NumPy type from their fields, if those agree with what NumPy says.");
  m.def(
      "set_array_teacher", [](nb::callable teacher) { set_array_teacher(teacher.ptr()); },
      nb::sig("def set_array_teacher(teacher: Callable[[type], bool]) -> None"), "teacher"_a,
      "Ask about each type of buffers that is new, until the answer is that it was NumPy's.");
  m.def("forget_array_type", &forget_array_type, "Read arrays through the buffer protocol only.");
  m.def(
      "learn_tensor_type",
      [](nb::type_object type, nb::capsule exchange_api, nb::tuple obstacles) {
        return learn_tensor_type(type.ptr(), exchange_api.ptr(), obstacles.ptr());
      },
      nb::sig("def learn_tensor_type(type: type, exchange_api: object, "
              "obstacles: tuple[Callable[[Any], bool], ...]) -> bool"),
      "type"_a, "exchange_api"_a, "obstacles"_a,
      "Read host tensors of this type through DLPack's C table, unless an obstacle is true.");
  m.def(
      "learn_status",
      [](Py_ssize_t source, Py_ssize_t tag, Py_ssize_t error, Py_ssize_t count,
         Py_ssize_t cancelled, int split_bit) {
        runtime().status_layout = {source, tag, error, count, cancelled, split_bit};
      },
      "source"_a, "tag"_a, "error"_a, "count"_a, "cancelled"_a, "split_bit"_a,
      "Write mpi4py's Status objects at these offsets; zeros for leaving them to the package.");
  m.def(
      "write_status",
      [](nb::object status, int source, int tag, int error, std::uint64_t nbytes) {
        if (!check_status(status.ptr())) throw nb::python_error();
        runtime().status_layout.write(status.ptr(), source, tag, error, nbytes);
      },
      nb::sig("def write_status(status: object, source: int, tag: int, error: int, nbytes: int) "
              "-> None"),
      "status"_a, "source"_a, "tag"_a, "error"_a, "nbytes"_a,
      "Fill an mpi4py Status with the learned layout.");
  m.def("install", &install, "type"_a, "slot_offset"_a,
        "Put the native methods on a communicator class.");
  define_primitives(m);
  define_inspection(m);
  define_shared_memory(m);
  define_numpy_handler(m);
}

}  // namespace mooncake_mpi::bindings
