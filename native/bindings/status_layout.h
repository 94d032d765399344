#pragma once

#include <Python.h>

#include <cstdint>

namespace mooncake_mpi::bindings {

// Where the fields of the MPI library's MPI_Status lie in an mpi4py Status object: MPI leaves that
// to the library, so the package finds out by trying. GIL held for every call.
struct StatusLayout {
  Py_ssize_t source = 0;     // offsets in bytes from the object's start; 0: not known
  Py_ssize_t tag = 0;        // int
  Py_ssize_t error = 0;      // int
  Py_ssize_t count = 0;      // 64 bits
  Py_ssize_t cancelled = 0;  // int; 0: one of the bits of `count`
  int split_bit = 64;        // bits of the count from this one on lie one place higher

  bool known() const noexcept { return count != 0; }
  // Sets every field; not cancelled.
  void write(PyObject* status, int source_rank, int tag_value, int error_class,
             std::uint64_t bytes) const noexcept;
};

}  // namespace mooncake_mpi::bindings
