#pragma once

#include <Python.h>

#include <cstdint>
#include <optional>

namespace mooncake_mpi::bindings {

// What an array says of itself: its elements follow each other in C order.
struct DescribedArray {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uintptr_t stream = 0;  // of the work that it is used in
  Py_ssize_t item_bytes = 0;
};

// Bytes of a number in this machine's order that MPI has a datatype for, else 0. GIL held.
Py_ssize_t item_bytes_of(PyObject* typestr);

// From the dict of `__cuda_array_interface__`; nothing without a Python error where it is of
// another version, has gaps or another type, or is read-only and to be written. GIL held.
std::optional<DescribedArray> read_array_interface(PyObject* interface, bool writable);

}  // namespace mooncake_mpi::bindings
