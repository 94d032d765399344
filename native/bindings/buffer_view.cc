#include "bindings/buffer_view.h"

#include <utility>

#include "bindings/buffer_spec.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {

BufferView::BufferView(BufferView&& other) noexcept {
  *this = std::move(other);
}

BufferView& BufferView::operator=(BufferView&& other) noexcept {
  std::swap(buffer_, other.buffer_);
  std::swap(has_view_, other.has_view_);
  std::swap(resolved_, other.resolved_);
  std::swap(keepalive_, other.keepalive_);
  std::swap(finish_, other.finish_);
  // A Py_buffer may be moved: shape and strides point into the exporter, except for the one-byte
  // form, which consumers of address and length never look at.
  std::swap(view_, other.view_);
  return *this;
}

bool BufferView::acquire(PyObject* object, bool writable, int rank) {
  if (PyObject_CheckBuffer(object)) {
    if (!take_plain(object, writable, view_)) return resolve(object, writable, rank);
    buffer_ = {static_cast<std::byte*>(view_.buf), static_cast<std::uint64_t>(view_.len)};
  } else if (!read_spec(object, writable, view_, buffer_)) {
    return resolve(object, writable, rank);
  }
  has_view_ = true;
  return true;
}

bool BufferView::resolve(PyObject* object, bool writable, int rank) {
  PyObject* resolved =
      PyObject_CallFunction(runtime().hooks.resolve, "Oii", object, writable ? 1 : 0, rank);
  if (resolved == nullptr) return false;
  unsigned long long address = 0;
  unsigned long long bytes = 0;
  PyObject* keepalive = nullptr;
  PyObject* finish = nullptr;
  const bool parsed =
      PyArg_ParseTuple(resolved, "KKOO", &address, &bytes, &keepalive, &finish) != 0;
  if (parsed) {
    resolved_ = true;
    buffer_ = {reinterpret_cast<std::byte*>(address), bytes};
    keepalive_ = Py_NewRef(keepalive);
    if (finish != Py_None) finish_ = Py_NewRef(finish);
  }
  Py_DECREF(resolved);
  return parsed;
}

void BufferView::borrow(const Buffer& buffer, PyObject* keepalive) noexcept {
  buffer_ = buffer;
  keepalive_ = Py_XNewRef(keepalive);
}

void BufferView::release() noexcept {
  if (has_view_) {
    has_view_ = false;
    PyBuffer_Release(&view_);
  }
  resolved_ = false;
  Py_CLEAR(keepalive_);
  Py_CLEAR(finish_);
}

}  // namespace mooncake_mpi::bindings
