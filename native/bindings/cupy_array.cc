// CuPy's arrays by their attributes. With the interpreter's lock (GIL) held.
#include "bindings/cupy_array.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "bindings/owned_reference.h"

namespace mooncake_mpi::bindings {
namespace {

// For good.
struct Names {
  PyObject* c_order = PyUnicode_InternFromString("_c_contiguous");
  PyObject* data = PyUnicode_InternFromString("data");
  PyObject* ptr = PyUnicode_InternFromString("ptr");
  PyObject* size = PyUnicode_InternFromString("size");
  PyObject* dtype = PyUnicode_InternFromString("dtype");
  PyObject* flags = PyUnicode_InternFromString("flags");
  PyObject* c_contiguous = PyUnicode_InternFromString("c_contiguous");
  PyObject* str = PyUnicode_InternFromString("str");
};

const Names& names() noexcept {
  static const Names instance;
  return instance;
}

// CuPy, once an array of it has been met.
struct Cupy {
  PyTypeObject* array = nullptr;
  PyObject* current_stream = nullptr;          // a function
  std::intptr_t (*stream_handle)() = nullptr;  // what CuPy's own modules ask, where it is found
};

Cupy cupy;
PyTypeObject* stranger = nullptr;  // the latest type that is not its array; never looked into

bool is_called(PyObject* type, const char* attribute, const char* text) {
  const Owned name(PyObject_GetAttrString(type, attribute));
  return name && PyUnicode_Check(name.get()) &&
         PyUnicode_CompareWithASCIIString(name.get(), text) == 0;
}

// Cython's table of a module's C functions, each with its signature.
void find_stream_handle() {
  const Owned module(PyImport_ImportModule("cupy_backends.cuda.stream"));
  const Owned table(module ? PyObject_GetAttrString(module.get(), "__pyx_capi__") : nullptr);
  const Owned entry(table ? PyMapping_GetItemString(table.get(), "get_current_stream_ptr")
                          : nullptr);
  constexpr const char* kSignature = "intptr_t (void)";
  if (entry && PyCapsule_IsValid(entry.get(), kSignature) != 0) {
    cupy.stream_handle =
        reinterpret_cast<std::intptr_t (*)()>(PyCapsule_GetPointer(entry.get(), kSignature));
  } else if (PyErr_ExceptionMatches(PyExc_Exception)) {
    PyErr_Clear();
  }
}

bool learn(PyTypeObject* type) {
  auto* object = reinterpret_cast<PyObject*>(type);
  if (!is_called(object, "__module__", "cupy") || !is_called(object, "__name__", "ndarray")) {
    return false;
  }
  const Owned module(PyImport_ImportModule("cupy"));
  if (!module) return false;
  const Owned cuda(PyObject_GetAttrString(module.get(), "cuda"));
  if (!cuda) return false;
  PyObject* current_stream = PyObject_GetAttrString(cuda.get(), "get_current_stream");
  if (current_stream == nullptr) return false;
  Py_INCREF(object);
  cupy = {type, current_stream};
  find_stream_handle();
  return true;
}

bool is_cupy_array(PyTypeObject* type) {
  if (type == cupy.array) return true;
  if (type == stranger || cupy.array != nullptr) return false;
  if (learn(type)) return true;
  if (PyErr_Occurred() == nullptr || PyErr_ExceptionMatches(PyExc_Exception)) {
    PyErr_Clear();
    Py_INCREF(reinterpret_cast<PyObject*>(type));
    Py_XDECREF(reinterpret_cast<PyObject*>(std::exchange(stranger, type)));
  }
  return false;
}

// numpy has one object for each type of numbers.
Py_ssize_t bytes_of_type(PyObject* dtype) {
  struct Known {
    PyObject* dtype;
    Py_ssize_t bytes;
  };
  static std::array<Known, 16> known{};
  static std::size_t count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (known[i].dtype == dtype) return known[i].bytes;
  }
  const Owned text(PyObject_GetAttr(dtype, names().str));
  const Py_ssize_t bytes = text ? item_bytes_of(text.get()) : 0;
  if (bytes != 0 && count < known.size()) known[count++] = {Py_NewRef(dtype), bytes};
  return bytes;
}

bool number(const Owned& object, unsigned long long& value) {
  if (!object) return false;
  value = PyLong_AsUnsignedLongLong(object.get());
  return value != static_cast<unsigned long long>(-1) || PyErr_Occurred() == nullptr;
}

// The attribute that its flags are made of, where it has it.
bool is_in_c_order(PyObject* object) {
  const Names& name = names();
  static bool known = true;
  if (known) {
    const Owned c_order(PyObject_GetAttr(object, name.c_order));
    if (c_order) return c_order.get() == Py_True;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
    PyErr_Clear();
    known = false;
  }
  const Owned flags(PyObject_GetAttr(object, name.flags));
  return flags.attribute(name.c_contiguous).get() == Py_True;
}

bool current_stream(unsigned long long& handle) {
  if (cupy.stream_handle != nullptr) {
    handle = static_cast<unsigned long long>(cupy.stream_handle());
    return PyErr_Occurred() == nullptr;
  }
  const Owned stream(PyObject_CallNoArgs(cupy.current_stream));
  return number(stream.attribute(names().ptr), handle);
}

std::optional<DescribedArray> read(PyObject* object) {
  const Names& name = names();
  if (!is_in_c_order(object)) return std::nullopt;
  const Owned dtype(PyObject_GetAttr(object, name.dtype));
  const Py_ssize_t item_bytes = dtype ? bytes_of_type(dtype.get()) : 0;
  if (item_bytes == 0) return std::nullopt;
  const Owned data(PyObject_GetAttr(object, name.data));
  unsigned long long address = 0;
  unsigned long long elements = 0;
  unsigned long long stream = 0;
  if (!number(data.attribute(name.ptr), address) ||
      !number(Owned(PyObject_GetAttr(object, name.size)), elements)) {
    return std::nullopt;
  }
  if (!current_stream(stream)) return std::nullopt;
  return DescribedArray{.address = address,
                        .bytes = elements * static_cast<unsigned long long>(item_bytes),
                        .stream = static_cast<std::uintptr_t>(stream),
                        .item_bytes = item_bytes};
}

}  // namespace

std::optional<DescribedArray> read_cupy_array(PyObject* object) {
  if (!is_cupy_array(Py_TYPE(object))) return std::nullopt;
  auto found = read(object);
  if (!found && PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_Exception)) {
    PyErr_Clear();
  }
  return found;
}

}  // namespace mooncake_mpi::bindings
