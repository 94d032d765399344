#pragma once

#include <Python.h>

#include "memory/buffer.h"

namespace mooncake_mpi::bindings {

// Tensors of libraries that offer DLPack's C exchange table (`__dlpack_c_exchange_api__`,
// DLPack 1.2): memory, shape and strides by one C call, without a capsule. GIL held.

// Tensors of exactly `type`, which are always writable, are read through `capsule` from now on,
// unless one of `obstacles`, a tuple of callables of a tensor, is true of it: the memory does not
// hold its values then. False if the table is of a version that is not understood.
bool learn_tensor_type(PyObject* type, PyObject* capsule, PyObject* obstacles);

// True with `buffer` filled for a C-contiguous tensor of the host or a GPU; the caller keeps a
// reference.
// False without a Python error. `item_bytes` is 0 for elements that MPI has no datatype for.
bool take_tensor(PyObject* object, Buffer& buffer, Py_ssize_t& item_bytes);

}  // namespace mooncake_mpi::bindings
