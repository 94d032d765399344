#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// Prequest.Start, Startall, and the methods that make persistent requests.
PyObject* start_persistent(PyObject* self, PyObject*);
// Of a list that nobody else has, the engine's own are started as one; returns those that are not.
PyObject* start_all_persistent(PyObject*, PyObject* list);

PyObject* send_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* ssend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* rsend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* bsend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* recv_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

}  // namespace mooncake_mpi::bindings
