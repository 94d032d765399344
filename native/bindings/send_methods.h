#pragma once

#include <Python.h>

#include <memory>

#include "bindings/buffer_view.h"
#include "bindings/communicator.h"
#include "memory/pieces.h"

namespace mooncake_mpi::bindings {

PyObject* comm_send(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_ssend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_rsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_bsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_isend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_issend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_irsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_ibsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// Posts a send whose arguments were checked. `operation` is nullptr when it is done already.
// False with the MPI exception raised.
bool post_send(Communicator& communicator, const Buffer& buffer, int dest, int tag, SendMode mode,
               MatchChannel channel, Operation*& operation);

// The same of bytes at several places; not buffered.
bool post_pieces(Communicator& communicator, std::unique_ptr<Pieces> pieces, int dest, int tag,
                 SendMode mode, Operation*& operation);

// Waits for a send and ends it; the view is kept for the engine if the wait is interrupted.
bool wait_send(Operation& operation, BufferView& view);

// What a caller that stops waiting does with a send: cancelled, or its bytes are copied.
void give_up_send(Operation& operation, BufferView& view);

}  // namespace mooncake_mpi::bindings
