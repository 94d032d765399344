#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// send and recv of a communicator, whose messages are objects.
PyObject* comm_send_object(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames);
PyObject* comm_recv_object(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames);

// What they call, of the package; see define_objects().
struct Pickling {
  PyObject* dumps = nullptr;
  PyObject* loads = nullptr;
  PyObject* load = nullptr;
  PyObject* not_loaded = nullptr;
  PyObject* is_interruption = nullptr;
  PyObject* send = nullptr;
  PyObject* recv = nullptr;
};
void set_pickling(const Pickling& given) noexcept;

// Whether the exception that is set came from a signal's handler, and not from the code that it
// left. Of those that code of the program or of the package raised.
bool was_interrupted();

}  // namespace mooncake_mpi::bindings
