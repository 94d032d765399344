// `__cuda_array_interface__`, as CuPy, Numba and others write it. With the interpreter's lock (GIL)
// held.
#include "bindings/array_interface.h"

#include <array>
#include <bit>
#include <string_view>

namespace mooncake_mpi::bindings {
namespace {

PyObject* item(PyObject* interface, const char* name) {
  return PyDict_GetItemString(interface, name);
}

std::optional<std::uint64_t> number(PyObject* value) {
  if (value == nullptr || !PyLong_Check(value)) return std::nullopt;
  const unsigned long long found = PyLong_AsUnsignedLongLong(value);
  if (found == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    PyErr_Clear();
    return std::nullopt;
  }
  return found;
}

struct NumberType {
  std::string_view name;
  Py_ssize_t bytes;
};

static_assert(std::endian::native == std::endian::little, "as on every machine with CUDA");
constexpr std::array<NumberType, 14> kNumberTypes = {{{"<f4", 4},
                                                      {"<f8", 8},
                                                      {"<f2", 2},
                                                      {"<i4", 4},
                                                      {"<i8", 8},
                                                      {"|u1", 1},
                                                      {"|i1", 1},
                                                      {"|b1", 1},
                                                      {"<c8", 8},
                                                      {"<c16", 16},
                                                      {"<u4", 4},
                                                      {"<u8", 8},
                                                      {"<i2", 2},
                                                      {"<u2", 2}}};

std::optional<std::uint64_t> elements_of(PyObject* shape) {
  if (shape == nullptr || !PyTuple_Check(shape)) return std::nullopt;
  std::uint64_t elements = 1;
  const Py_ssize_t axes = PyTuple_Size(shape);
  for (Py_ssize_t axis = 0; axis < axes; ++axis) {
    const auto length = number(PyTuple_GetItem(shape, axis));
    if (!length || __builtin_mul_overflow(elements, *length, &elements)) return std::nullopt;
  }
  return elements;
}

bool is_missing(PyObject* value) noexcept {
  return value == nullptr || value == Py_None;
}

}  // namespace

Py_ssize_t item_bytes_of(PyObject* typestr) {
  if (typestr == nullptr || !PyUnicode_Check(typestr)) return 0;
  Py_ssize_t length = 0;
  const char* text = PyUnicode_AsUTF8AndSize(typestr, &length);
  if (text == nullptr) {
    PyErr_Clear();
    return 0;
  }
  const std::string_view name(text, static_cast<std::size_t>(length));
  for (const NumberType& type : kNumberTypes) {
    if (name == type.name) return type.bytes;
  }
  return 0;
}

// Version 3 names the stream of the array's work. Where that is None the default stream is meant:
// other streams wait for it, and it for them, unless the program has asked for the contrary.
std::optional<DescribedArray> read_array_interface(PyObject* interface, bool writable) {
  if (!PyDict_Check(interface)) return std::nullopt;
  const auto version = number(item(interface, "version"));
  if (!version || *version < 3) return std::nullopt;
  if (!is_missing(item(interface, "strides")) || !is_missing(item(interface, "mask"))) {
    return std::nullopt;
  }
  PyObject* data = item(interface, "data");
  if (data == nullptr || !PyTuple_Check(data) || PyTuple_Size(data) != 2) return std::nullopt;
  if (writable && PyTuple_GetItem(data, 1) != Py_False) return std::nullopt;
  DescribedArray array;
  array.item_bytes = item_bytes_of(item(interface, "typestr"));
  const auto address = number(PyTuple_GetItem(data, 0));
  const auto elements = elements_of(item(interface, "shape"));
  if (array.item_bytes == 0 || !address || !elements) return std::nullopt;
  array.address = *address;
  if (__builtin_mul_overflow(*elements, static_cast<std::uint64_t>(array.item_bytes),
                             &array.bytes)) {
    return std::nullopt;
  }
  PyObject* stream = item(interface, "stream");
  if (!is_missing(stream)) {
    const auto handle = number(stream);
    if (!handle) return std::nullopt;
    array.stream = *handle;
  }
  return array;
}

}  // namespace mooncake_mpi::bindings
