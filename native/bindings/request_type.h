#pragma once

#include <Python.h>

namespace mooncake_mpi::bindings {

// The base class of the package's requests, made once. GIL held for every call.
PyObject* create_request_type();
PyObject* request_base_type() noexcept;

}  // namespace mooncake_mpi::bindings
