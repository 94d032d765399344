#pragma once

#include <Python.h>

#include "memory/buffer.h"

namespace mooncake_mpi::bindings {

// The commonest buffer specifications, read without a Python frame: [buf, count], [buf, datatype]
// and [buf, count, datatype] of a contiguous buffer and a datatype that was learned. GIL held.

// `datatype`, a predefined MPI.Datatype or a type code, is `size` bytes without a gap from now on.
void learn_datatype(PyObject* datatype, Py_ssize_t size);

// True with `view` and `buffer` filled. False without a Python error: the package has to look.
bool read_spec(PyObject* spec, bool writable, Py_buffer& view, Buffer& buffer);

// Takes `object`'s memory if it is contiguous and of a format that MPI has a datatype for.
bool take_plain(PyObject* object, bool writable, Py_buffer& view);

}  // namespace mooncake_mpi::bindings
