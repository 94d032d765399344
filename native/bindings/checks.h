#pragma once

// What the functions of the module check first, and how they pass on a Python error: they throw it.
// With the interpreter's lock (GIL) held.

#include <nanobind/nanobind.h>

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

inline void require_usable(const Communicator& communicator) {
  if (communicator.usable()) return;
  raise_unusable();
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
