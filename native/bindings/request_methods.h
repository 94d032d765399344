#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// The methods of a request, each of which a shared one passes on to its owner.
PyObject* request_wait(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* request_test(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* request_get_status(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                             PyObject* kwnames);
PyObject* request_cancel(PyObject* self, PyObject*);
PyObject* request_free(PyObject* self, PyObject*);
// Progress once; whether the request is complete or inactive.
PyObject* request_poll(PyObject* self, PyObject*);

}  // namespace mooncake_mpi::bindings
