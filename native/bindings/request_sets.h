#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// Request.Waitall for a list of the engine's requests; other lists go to the package.
PyObject* wait_all(PyObject* type, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// Waits until one (or all) of the engine's requests in a sequence is complete, at most
// `timeout_ms`; the requests are not ended. Returns True or False.
PyObject* wait_for_requests(PyObject* requests, bool all, int timeout_ms);

}  // namespace mooncake_mpi::bindings
