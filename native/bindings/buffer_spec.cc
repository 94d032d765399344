#include "bindings/buffer_spec.h"

#include <cstring>
#include <unordered_map>

namespace mooncake_mpi::bindings {
namespace {

using Sizes = std::unordered_map<PyObject*, Py_ssize_t>;

// Objects are told apart by identity: each is kept alive, so that no other gets its address.
Sizes& sizes() noexcept {
  static auto* instance = new Sizes;
  return *instance;
}

// Formats (PEP 3118) of which MPI has a datatype of the same size: a wrong one would send pointers.
bool known_format(const char* format) noexcept {
  if (format == nullptr) return true;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (*format == 'Z') ++format;
  return *format != 0 && format[1] == 0 && std::strchr("?cbBhHiIlLqQefdg", *format) != nullptr;
}

bool take(PyObject* object, bool writable, Py_buffer& view) {
  const int flags = PyBUF_ND | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object, &view, flags) == 0) return true;
  PyErr_Clear();  // the package finds another way, or words that name the argument
  return false;
}

// What follows the buffer in a specification.
struct Counted {
  PyObject* count = nullptr;
  Py_ssize_t item_bytes = 0;  // 0: that of the buffer's own format
};

bool read_counted(PyObject* const* items, Py_ssize_t size, Counted& counted) {
  PyObject* datatype = nullptr;
  if (size == 3) {
    counted.count = items[1];
    datatype = items[2];
  } else if (size == 2) {
    (PyLong_CheckExact(items[1]) ? counted.count : datatype) = items[1];
  } else {
    return false;
  }
  if (counted.count != nullptr && !PyLong_CheckExact(counted.count)) return false;
  if (datatype == nullptr) return true;
  const auto found = sizes().find(datatype);
  if (found == sizes().end()) return false;
  counted.item_bytes = found->second;
  return true;
}

bool fits(const Counted& counted, const Py_buffer& view, std::uint64_t& bytes) {
  const Py_ssize_t item_bytes = counted.item_bytes != 0 ? counted.item_bytes : view.itemsize;
  if (item_bytes <= 0) return false;
  if (counted.count == nullptr) {
    bytes = static_cast<std::uint64_t>(view.len);
    return view.len % item_bytes == 0;
  }
  const Py_ssize_t count = PyLong_AsSsize_t(counted.count);
  if (count < 0) {
    PyErr_Clear();
    return false;
  }
  if (count > view.len / item_bytes) return false;
  bytes = static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(item_bytes);
  return true;
}

}  // namespace

void learn_datatype(PyObject* datatype, Py_ssize_t size) {
  if (sizes().try_emplace(datatype, size).second) Py_INCREF(datatype);
}

bool take_plain(PyObject* object, bool writable, Py_buffer& view) {
  if (!take(object, writable, view)) return false;
  if (known_format(view.format)) return true;
  PyBuffer_Release(&view);
  return false;
}

bool read_spec(PyObject* spec, bool writable, Py_buffer& view, Buffer& buffer) {
  PyObject* items[3];
  const bool is_list = PyList_CheckExact(spec);
  if (!is_list && !PyTuple_CheckExact(spec)) return false;
  const Py_ssize_t size = is_list ? PyList_Size(spec) : PyTuple_Size(spec);
  if (size != 2 && size != 3) return false;
  for (Py_ssize_t i = 0; i < size; ++i) {
    items[i] = is_list ? PyList_GetItem(spec, i) : PyTuple_GetItem(spec, i);
  }
  Counted counted;
  if (!PyObject_CheckBuffer(items[0]) || !read_counted(items, size, counted)) return false;
  const bool taken = counted.item_bytes != 0 ? take(items[0], writable, view)
                                             : take_plain(items[0], writable, view);
  if (!taken) return false;
  std::uint64_t bytes = 0;
  if (!fits(counted, view, bytes)) {
    PyBuffer_Release(&view);
    return false;
  }
  buffer = {static_cast<std::byte*>(view.buf), bytes};
  return true;
}

}  // namespace mooncake_mpi::bindings
