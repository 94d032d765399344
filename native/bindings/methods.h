#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// Puts the hot methods on a class whose instances keep their Communicator in a `_communicator`
// slot, as method descriptors: calling one makes no Python frame, and a subclass may override it.
// False with a Python error set. `any_source` and `any_tag`, the MPI library's numbers, stand in
// the signatures that the methods show.
bool install_methods(PyTypeObject* type, Py_ssize_t slot_offset, int any_source, int any_tag);

}  // namespace mooncake_mpi::bindings
