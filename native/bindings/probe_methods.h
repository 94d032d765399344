#pragma once

#include <Python.h>

#include "base/result.h"
#include "protocol/context.h"

namespace mooncake_mpi::bindings {

PyObject* comm_probe(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_iprobe(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// Raises the error of a probe that can find nothing.
PyObject* raise_no_message(Error error, Context& context, int source);

}  // namespace mooncake_mpi::bindings
