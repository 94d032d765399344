// The memory of NumPy's arrays, read from the fields of the objects. With the interpreter's lock
// (GIL) held.
#include "bindings/numpy_array.h"

#include <array>
#include <bit>

#include "bindings/interpreter_lock.h"

namespace mooncake_mpi::bindings {
namespace {

// PyArray_Descr, as far as NumPy 1 and 2 agree.
struct DescriptorFields {
  PyObject_HEAD;
  PyTypeObject* typeobj;
  char kind;
  char type;
  char byteorder;
};

// PyArrayObject_fields.
struct ArrayFields {
  PyObject_HEAD;
  char* data;
  int nd;
  Py_ssize_t* dimensions;
  Py_ssize_t* strides;
  PyObject* base;
  DescriptorFields* descr;
  int flags;
};

constexpr int kContiguous = 0x1 | 0x2;  // in C's order or Fortran's
constexpr int kWritable = 0x400;
constexpr char kForeignOrder = std::endian::native == std::endian::little ? '>' : '<';

// Bytes of an element by NumPy's type character; 0 for what is no number.
constexpr auto kItemBytes = [] {
  std::array<std::uint8_t, 128> bytes{};
  for (const char c : {'?', 'b', 'B'})
    bytes[static_cast<std::size_t>(c)] = 1;
  for (const char c : {'h', 'H', 'e'})
    bytes[static_cast<std::size_t>(c)] = 2;
  for (const char c : {'i', 'I', 'f'})
    bytes[static_cast<std::size_t>(c)] = 4;
  for (const char c : {'q', 'Q', 'd', 'F'})
    bytes[static_cast<std::size_t>(c)] = 8;
  bytes['l'] = bytes['L'] = sizeof(long);
  bytes['D'] = 16;
  bytes['g'] = sizeof(long double);
  bytes['G'] = 2 * sizeof(long double);
  return bytes;
}();

PyTypeObject* array_type = nullptr;
PyObject* array_teacher = nullptr;
PyTypeObject* stranger = nullptr;  // of which it has said no last

Py_ssize_t item_bytes_of(const ArrayFields& array) noexcept {
  const auto type = static_cast<unsigned char>(array.descr->type);
  if (type >= kItemBytes.size() || array.descr->byteorder == kForeignOrder) return 0;
  return kItemBytes[type];
}

std::uint64_t bytes_of(const ArrayFields& array, Py_ssize_t item_bytes) noexcept {
  auto bytes = static_cast<std::uint64_t>(item_bytes);
  for (int axis = 0; axis < array.nd; ++axis)
    bytes *= static_cast<std::uint64_t>(array.dimensions[axis]);
  return bytes;
}

}  // namespace

bool learn_array_type(PyObject* array, const ArrayFacts& facts) {
  const auto& fields = *reinterpret_cast<const ArrayFields*>(array);
  if (reinterpret_cast<std::uint64_t>(fields.data) != facts.address) return false;
  if (((fields.flags & kContiguous) != 0) != facts.contiguous) return false;
  if (((fields.flags & kWritable) != 0) != facts.writable) return false;
  const Py_ssize_t item_bytes = item_bytes_of(fields);
  if ((item_bytes != 0) != facts.number_of_this_machine) return false;
  if (item_bytes != 0 && bytes_of(fields, item_bytes) != facts.bytes) return false;
  array_type = Py_TYPE(array);
  return true;
}

void forget_array_type() noexcept {
  array_type = nullptr;
}

void set_array_teacher(PyObject* teacher) {
  array_teacher = Py_NewRef(teacher);
}

bool array_type_met(PyObject* object) {
  if (array_teacher == nullptr || Py_TYPE(object) == stranger || PyBytes_CheckExact(object) ||
      PyByteArray_CheckExact(object) || PyMemoryView_Check(object)) {
    return false;
  }
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  PyObject* met =
      with_interpreter([&] { return PyObject_CallFunctionObjArgs(array_teacher, type, nullptr); });
  const bool is_array = met == Py_True;
  Py_XDECREF(met);
  PyErr_Clear();  // the buffer protocol serves every array
  if (is_array) {
    Py_CLEAR(array_teacher);
  } else {
    stranger = Py_TYPE(object);
  }
  return is_array;
}

bool take_array(PyObject* object, bool writable, Buffer& buffer, Py_ssize_t& item_bytes) noexcept {
  if (Py_TYPE(object) != array_type) return false;
  const auto& fields = *reinterpret_cast<const ArrayFields*>(object);
  if ((fields.flags & kContiguous) == 0 || (writable && (fields.flags & kWritable) == 0)) {
    return false;
  }
  item_bytes = item_bytes_of(fields);
  if (item_bytes == 0) return false;
  buffer = {reinterpret_cast<std::byte*>(fields.data), bytes_of(fields, item_bytes)};
  return true;
}

}  // namespace mooncake_mpi::bindings
