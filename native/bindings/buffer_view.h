#pragma once

#include <Python.h>

#include "memory/buffer.h"

namespace mooncake_mpi::bindings {

// A Python buffer argument as address and length, kept alive until release(). Contiguous buffers of
// a known format, arrays of GPUs and the commonest specifications are read here; every other form
// (derived datatypes, DLPack) is resolved by the package. GIL held for every call.
class BufferView {
 public:
  BufferView() noexcept = default;
  BufferView(BufferView&& other) noexcept;
  BufferView& operator=(BufferView&& other) noexcept;
  ~BufferView() { release(); }

  // False with a Python error set. `rank` is the peer: MPI is lenient about PROC_NULL.
  bool acquire(PyObject* object, bool writable, int rank);
  // Memory at an address that `keepalive` (may be nullptr) keeps valid.
  void borrow(const Buffer& buffer, PyObject* keepalive) noexcept;
  void release() noexcept;

  const Buffer& buffer() const noexcept { return buffer_; }
  // The package found the bytes, which may be a packed copy of what the object holds now.
  bool resolved() const noexcept { return resolved_; }
  // Called with the number of bytes received, or nullptr.
  PyObject* finish() const noexcept { return finish_; }

 private:
  // The same for what is no array of NumPy's.
  [[gnu::noinline]] bool acquire_other(PyObject* object, bool writable, int rank);
  // False without a Python error. `any_format`: a datatype was given, the format does not matter.
  bool take(PyObject* object, bool writable, bool any_format, Py_ssize_t& item_bytes);
  bool resolve(PyObject* object, bool writable, int rank);
  // Of what the package found to be a GPU's; false with a Python error set.
  bool place_on_device(PyObject* stream);

  Buffer buffer_;
  bool has_view_ = false;
  bool resolved_ = false;
  PyObject* keepalive_ = nullptr;
  PyObject* finish_ = nullptr;
  Py_buffer view_{};
};

}  // namespace mooncake_mpi::bindings
