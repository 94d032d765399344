#pragma once

#include <Python.h>

#include <cstddef>
#include <memory>

namespace mooncake_mpi::bindings {

// The Python type `OwnedBuffer`: writable memory that the engine allocated for a message, exported
// through the buffer protocol.
PyObject* create_owned_buffer_type();
PyObject* new_owned_buffer(std::unique_ptr<std::byte[]> memory, std::size_t bytes);

}  // namespace mooncake_mpi::bindings
