// What the package gives the extension once, at import: its callables, the MPI library's values,
// and what the objects of mpi4py, NumPy and others look like. With the interpreter's lock (GIL)
// held.
#include <nanobind/stl/string.h>

#include <string>

#include "bindings/buffer_spec.h"
#include "bindings/checks.h"
#include "bindings/device_array.h"
#include "bindings/dlpack_tensor.h"
#include "bindings/methods.h"
#include "bindings/module.h"
#include "bindings/numpy_array.h"
#include "bindings/runtime.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

void set_hooks(nb::callable resolve, nb::callable fill_status, nb::callable raise_error,
               nb::callable report_error, nb::object error_type, nb::callable look_in_library,
               nb::callable wait_all, nb::object request_type, nb::object persistent_type,
               nb::object status_type, nb::callable warn_of_detour) {
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
  hooks.warn_of_detour = warn_of_detour.release().ptr();
}

void install(nb::type_object type, Py_ssize_t slot_offset, int any_source, int any_tag) {
  auto* kind = reinterpret_cast<PyTypeObject*>(type.ptr());
  require(install_methods(kind, slot_offset, any_source, any_tag));
}

}  // namespace

void define_hooks(nb::module_& m) {
  m.def("set_hooks", &set_hooks,
        nb::sig(
            "def set_hooks(resolve: Callable[..., Any], fill_status: Callable[..., None], "
            "raise_error: Callable[[str, str], Any], report_error: Callable[..., Any], "
            "error_type: type, look_in_library: Callable[..., Any], wait_all: Callable[..., Any], "
            "request_type: type, "
            "persistent_type: type, status_type: type, warn_of_detour: Callable[[str], None]) "
            "-> None"),
        "resolve"_a, "fill_status"_a, "raise_error"_a, "report_error"_a, "error_type"_a,
        "look_in_library"_a, "wait_all"_a, "request_type"_a, "persistent_type"_a, "status_type"_a,
        "warn_of_detour"_a, "Set the package's callables and request classes.");
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
  m.def("install", &install, "type"_a, "slot_offset"_a, "any_source"_a, "any_tag"_a,
        "Put the native methods on a communicator class.");
}

void define_layouts(nb::module_& m) {
  m.def(
      "gpu_objection",
      [](std::uint64_t address, std::uint64_t nbytes) {
        const auto found = device_buffer(address, nbytes, 0);
        return found ? std::string() : found.failure().message;
      },
      nb::sig("def gpu_objection(address: int, nbytes: int) -> str"), "address"_a, "nbytes"_a,
      "Why these bytes cannot be used as a GPU's memory; empty if they can.");
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
}

}  // namespace mooncake_mpi::bindings
