// A Python buffer as address and length: the quick ways, and the question to the package. With the
// interpreter's lock (GIL) held.
#include "bindings/buffer_view.h"

#include <cstring>
#include <utility>

#include "bindings/buffer_spec.h"
#include "bindings/device_array.h"
#include "bindings/dlpack_tensor.h"
#include "bindings/interpreter_lock.h"
#include "bindings/numpy_array.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

// Formats (PEP 3118) of which MPI has a datatype of the same size: a wrong one would send pointers.
bool known_format(const char* format) noexcept {
  if (format == nullptr) return true;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (*format == 'Z') ++format;
  return *format != 0 && format[1] == 0 && std::strchr("?cbBhHiIlLqQefdg", *format) != nullptr;
}

}  // namespace

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
  Py_ssize_t item_bytes = 0;
  if (take_array(object, writable, buffer_, item_bytes)) [[likely]] {
    keepalive_ = Py_NewRef(object);
    return true;
  }
  return acquire_other(object, writable, rank);
}

bool BufferView::acquire_other(PyObject* object, bool writable, int rank) {
  Py_ssize_t item_bytes = 0;
  BufferSpec spec;
  if (spec.read(object)) {
    if (take(spec.memory, writable, spec.item_bytes != 0, item_bytes)) {
      if (spec.measure(buffer_.bytes, item_bytes, buffer_.bytes)) return true;
      release();
    }
  } else if (take(object, writable, false, item_bytes)) {
    return true;
  }
  return resolve(object, writable, rank);
}

bool BufferView::take(PyObject* object, bool writable, bool any_format, Py_ssize_t& item_bytes) {
  if (take_array(object, writable, buffer_, item_bytes) ||
      take_tensor(object, buffer_, item_bytes)) {
    keepalive_ = Py_NewRef(object);
    return true;
  }
  // CuPy's arrays have a buffer protocol, too, which refuses.
  const bool exports = PyObject_CheckBuffer(object) != 0;
  if (!exports || is_cuda_array_type(Py_TYPE(object))) {
    if (take_cuda_array(object, writable, buffer_, item_bytes)) {
      keepalive_ = Py_NewRef(object);
      return true;
    }
    if (!exports || PyErr_Occurred() != nullptr) return false;
  }
  if (array_type_met(object) && take_array(object, writable, buffer_, item_bytes)) {
    keepalive_ = Py_NewRef(object);
    return true;
  }
  const int flags = PyBUF_ND | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object, &view_, flags) != 0) {
    PyErr_Clear();  // the package finds another way, or words that name the argument
    return false;
  }
  has_view_ = true;
  if (!any_format && !known_format(view_.format)) {
    release();
    return false;
  }
  buffer_ = {static_cast<std::byte*>(view_.buf), static_cast<std::uint64_t>(view_.len)};
  item_bytes = view_.itemsize;
  return true;
}

bool BufferView::resolve(PyObject* object, bool writable, int rank) {
  if (PyErr_Occurred() != nullptr) return false;  // an interrupt, while an array was asked
  PyObject* resolved = with_interpreter([&] {
    return PyObject_CallFunction(runtime().hooks.resolve, "Oii", object, writable ? 1 : 0, rank);
  });
  if (resolved == nullptr) return false;
  unsigned long long address = 0;
  unsigned long long bytes = 0;
  PyObject* keepalive = nullptr;
  PyObject* finish = nullptr;
  PyObject* stream = nullptr;
  bool parsed =
      PyArg_ParseTuple(resolved, "KKOOO", &address, &bytes, &keepalive, &finish, &stream) != 0;
  if (parsed) {
    buffer_ = {reinterpret_cast<std::byte*>(address), bytes};
    parsed = stream == Py_None || place_on_device(stream);
  }
  if (parsed) {
    resolved_ = true;
    keepalive_ = Py_NewRef(keepalive);
    if (finish != Py_None) finish_ = Py_NewRef(finish);
  }
  Py_DECREF(resolved);
  return parsed;
}

bool BufferView::place_on_device(PyObject* stream) {
  const unsigned long long handle = PyLong_AsUnsignedLongLong(stream);
  if (PyErr_Occurred() != nullptr) return false;
  auto found =
      device_buffer(reinterpret_cast<std::uint64_t>(buffer_.address), buffer_.bytes, handle);
  if (!found) return raise_error(found.failure().error, found.failure().message.c_str()) != nullptr;
  buffer_ = found.value();
  return true;
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
