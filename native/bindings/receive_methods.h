#pragma once

#include <Python.h>

#include "bindings/buffer_view.h"
#include "engine/engine.h"

namespace mooncake_mpi::bindings {

PyObject* comm_recv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_irecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_sendrecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// Waits for a receive and ends it: unpacks, fills the status, raises its error. `any_size` returns
// the OwnedBuffer, otherwise None.
PyObject* wait_receive(Operation& operation, BufferView& view, PyObject* status, bool any_size);

// What a caller that stops waiting does with a receive: cancelled where it has not matched.
void give_up_receive(Operation& operation, BufferView& view, MatchChannel channel);

}  // namespace mooncake_mpi::bindings
