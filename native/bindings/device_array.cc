// Arrays in the memory of GPUs: `__cuda_array_interface__` as CuPy, Numba and others write it, and
// what the CUDA driver says of an address. With the interpreter's lock (GIL) held.
#include "bindings/device_array.h"

#include <array>
#include <bit>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "bindings/interpreter_lock.h"
#include "bindings/runtime.h"
#include "memory/cuda/gpu_memory.h"

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

PyObject* interface_name() {
  static PyObject* const name = PyUnicode_InternFromString("__cuda_array_interface__");
  return name;
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

// Bytes of a number in this machine's order that MPI has a datatype for, else 0.
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

struct Described {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uintptr_t stream = 0;
  Py_ssize_t item_bytes = 0;
};

// Version 3 names the stream of the array's work. Where that is None the default stream is meant:
// other streams wait for it, and it for them, unless the program has asked for the contrary.
std::optional<Described> read(PyObject* interface, bool writable) {
  if (!PyDict_Check(interface)) return std::nullopt;
  const auto version = number(item(interface, "version"));
  if (!version || *version < 3) return std::nullopt;
  if (!is_missing(item(interface, "strides")) || !is_missing(item(interface, "mask"))) {
    return std::nullopt;
  }
  PyObject* data = item(interface, "data");
  if (data == nullptr || !PyTuple_Check(data) || PyTuple_Size(data) != 2) return std::nullopt;
  if (writable && PyTuple_GetItem(data, 1) != Py_False) return std::nullopt;
  Described array;
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

}  // namespace

Result<cuda::GpuMemory*> gpu_memory() {
  static cuda::GpuMemory* known = nullptr;
  if (known != nullptr) return known;
  Engine* engine = runtime().engine.get();
  std::string library = engine != nullptr ? engine->config().settings.text("cuda_library") : "";
  if (library.empty()) library = "libcuda.so.1";
  auto memory = cuda::gpu_memory(library);
  if (!memory || engine == nullptr) return memory;
  known = memory.value();
  engine->set_device_work(known->queue());
  return known;
}

Result<Buffer> device_buffer(std::uint64_t address, std::uint64_t bytes, std::uintptr_t stream) {
  if (bytes == 0) return Buffer{};
  auto memory = gpu_memory();
  if (!memory) return memory.failure();
  auto found = memory.value()->describe(reinterpret_cast<std::byte*>(address), bytes, stream);
  if (found && found.value().device == nullptr) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(address));
    return Failure{Error::kBuffer, std::string("no GPU memory (any more) at ") + text};
  }
  return found;
}

bool is_cuda_array_type(PyTypeObject* type) {
  // The latest of each kind, which are most.
  static PyTypeObject* with = nullptr;
  static PyTypeObject* without = nullptr;
  if (type == with) return true;
  if (type == without) return false;
  const bool found = with_interpreter(
      [&] { return PyObject_HasAttr(reinterpret_cast<PyObject*>(type), interface_name()) != 0; });
  PyTypeObject*& latest = found ? with : without;
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  Py_XDECREF(reinterpret_cast<PyObject*>(std::exchange(latest, type)));
  return found;
}

bool take_cuda_array(PyObject* object, bool writable, Buffer& buffer, Py_ssize_t& item_bytes) {
  if (PyList_CheckExact(object) || PyTuple_CheckExact(object) || object == Py_None) return false;
  PyObject* interface =
      with_interpreter([&] { return PyObject_GetAttr(object, interface_name()); });
  if (interface == nullptr) {
    // An interrupt is not the object's answer.
    if (PyErr_ExceptionMatches(PyExc_Exception)) PyErr_Clear();
    return false;
  }
  const auto array = read(interface, writable);
  Py_DECREF(interface);
  if (!array) return false;
  auto found = device_buffer(array->address, array->bytes, array->stream);
  if (!found) return false;  // the package says what is wrong, and with which argument
  buffer = found.value();
  item_bytes = array->item_bytes;
  return true;
}

}  // namespace mooncake_mpi::bindings
