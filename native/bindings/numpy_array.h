#pragma once

#include <Python.h>

#include "memory/buffer.h"

namespace mooncake_mpi::bindings {

// The memory of a numpy.ndarray, read from the object's fields, which NumPy's ABI fixes. Its buffer
// protocol writes a format for every call, more work than the rest of a small message. GIL held.

// What NumPy says of an array: the fields must say the same, or arrays go by the buffer protocol.
struct ArrayFacts {
  std::uint64_t address;
  std::uint64_t bytes;
  bool contiguous;
  bool writable;
  bool number_of_this_machine;
};

// `facts` of `array`, a numpy.ndarray. True if its fields agree; only then is its type learned.
bool learn_array_type(PyObject* array, const ArrayFacts& facts);
// One disagreement, and no array's fields are read again.
void forget_array_type() noexcept;

// Until a type is learned: `teacher`, callable(type) -> bool, is asked about types of buffers that
// are new, and answers true when it has seen NumPy's and tried to have it learned.
void set_array_teacher(PyObject* teacher);
// Asks it about the type of `object`, which exports a buffer. True if arrays may be read since.
bool array_type_met(PyObject* object);

// True with `buffer` filled for a contiguous array of numbers in this machine's byte order (and
// writable, if asked for); the caller keeps a reference. `item_bytes` is the size of an element.
bool take_array(PyObject* object, bool writable, Buffer& buffer, Py_ssize_t& item_bytes) noexcept;

}  // namespace mooncake_mpi::bindings
