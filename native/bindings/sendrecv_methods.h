#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

PyObject* comm_sendrecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
// (the send, the receive), of which the package makes one request.
PyObject* comm_isendrecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                         PyObject* kwnames);

}  // namespace mooncake_mpi::bindings
