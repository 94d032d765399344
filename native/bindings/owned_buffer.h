#pragma once

#include <Python.h>

#include <cstddef>
#include <memory>

#include "protocol/operation.h"

namespace mooncake_mpi::bindings {

// The Python type `OwnedBuffer`: writable memory that the engine allocated for a message, exported
// through the buffer protocol. Knows whose message it is.
PyObject* create_owned_buffer_type();
PyObject* new_owned_buffer(std::unique_ptr<std::byte[]> memory, const Completion& completion);

struct OwnedMessage {
  std::byte* address;
  Py_ssize_t bytes;
  int source;
  int tag;
};
bool is_owned_buffer(PyObject* object) noexcept;
// Of an OwnedBuffer.
OwnedMessage owned_message(PyObject* object) noexcept;

}  // namespace mooncake_mpi::bindings
