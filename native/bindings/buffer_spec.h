#pragma once

#include <Python.h>

#include <cstdint>

namespace mooncake_mpi::bindings {

// The commonest buffer specifications, read without a Python frame: [buf, count], [buf, datatype]
// and [buf, count, datatype] with a datatype that was learned. GIL held for every call.
struct BufferSpec {
  PyObject* memory = nullptr;  // borrowed
  PyObject* count = nullptr;   // borrowed; nullptr: as many as there are
  Py_ssize_t item_bytes = 0;   // 0: that of the memory's own format

  // False without a Python error: the package has to look.
  bool read(PyObject* spec);
  // The bytes that are meant, of `available` with items of `own_item_bytes`.
  bool measure(std::uint64_t available, Py_ssize_t own_item_bytes, std::uint64_t& bytes) const;
};

// `datatype`, a predefined MPI.Datatype or a type code, is `size` bytes without a gap from now on.
void learn_datatype(PyObject* datatype, Py_ssize_t size);

}  // namespace mooncake_mpi::bindings
