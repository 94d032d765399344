#pragma once

// What the functions of the module check first, and how they pass on a Python error: they throw it.
// With the interpreter's lock (GIL) held.

#include <nanobind/nanobind.h>

#include "bindings/arguments.h"
#include "bindings/communicator.h"

namespace mooncake_mpi::bindings {

// `object`, or the Python error that is set where there is none.
inline nanobind::object steal_or_throw(PyObject* object) {
  if (object == nullptr) throw nanobind::python_error();
  return nanobind::steal(object);
}

inline void require(bool ok) {
  if (!ok) throw nanobind::python_error();
}

// A rank or a tag as the program gave it, which may be no int. Its number is asked for before all
// else: the program's code may run then.
class Int {
 public:
  Int() = default;
  explicit Int(PyObject* given) noexcept : given_(given) {}
  int number() const {
    int number = 0;
    require(to_int(given_, 0, number));
    return number;
  }

 private:
  PyObject* given_ = nullptr;  // the caller's
};

inline void require_usable(const Communicator& communicator) {
  if (communicator.usable()) return;
  raise_unusable(communicator);
  throw nanobind::python_error();
}

// Maps the wildcards onto the engine's. Only the program's messages have limits of their tags.
inline void check_receive(Communicator& communicator, int& source, int& tag, MatchChannel channel) {
  require_usable(communicator);
  require(check_source(communicator, source));
  if (channel == MatchChannel::kMessages) require(check_receive_tag(communicator, tag));
}

inline Buffer memory_at(std::uintptr_t address, std::uint64_t nbytes) {
  return {reinterpret_cast<std::byte*>(address), nbytes};
}

}  // namespace mooncake_mpi::bindings

namespace nanobind::detail {

template <>
struct type_caster<mooncake_mpi::bindings::Int> {
  NB_TYPE_CASTER(mooncake_mpi::bindings::Int, const_name("int"))
  bool from_python(handle given, std::uint8_t, cleanup_list*) noexcept {
    value = mooncake_mpi::bindings::Int(given.ptr());
    return true;
  }
};

}  // namespace nanobind::detail
