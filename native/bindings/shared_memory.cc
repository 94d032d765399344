// Memory made for messages as Python objects, or as bare blocks. With the interpreter's lock (GIL)
// held, which is given back while an object's memory is allocated and zeroed.
#include <Python.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "bindings/interpreter_lock.h"
#include "bindings/module.h"
#include "memory/shared_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mooncake_mpi::bindings {
namespace {

// An allocation with the life of a Python object: of the pool, or ordinary memory.
struct SharedBuffer {
  PyObject_HEAD void* address;
  Py_ssize_t bytes;
};

PyObject* type = nullptr;

void release(void* address) {
  if (!process_pool().free(address)) std::free(address);
}

void dealloc(PyObject* self) {
  PyTypeObject* own_type = Py_TYPE(self);
  release(reinterpret_cast<SharedBuffer*>(self)->address);
  auto free = reinterpret_cast<freefunc>(PyType_GetSlot(own_type, Py_tp_free));
  free(self);
  Py_DECREF(own_type);
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  const auto* buffer = reinterpret_cast<SharedBuffer*>(self);
  return PyBuffer_FillInfo(view, self, buffer->address, buffer->bytes, 0, flags);
}

Py_ssize_t length(PyObject* self) {
  return reinterpret_cast<SharedBuffer*>(self)->bytes;
}

PyObject* create_type() {
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("Host memory that the processes of the node can map; freed "
                                    "with its last view.")},
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
      {Py_sq_length, reinterpret_cast<void*>(length)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"mooncake_mpi._native.SharedBuffer", sizeof(SharedBuffer), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return type = PyType_FromSpec(&spec);
}

void* allocate(std::size_t bytes, bool zeroed) {
  const Arena::Block block = process_pool().allocate(bytes);
  if (block.address == nullptr) {
    return zeroed ? std::calloc(std::max<std::size_t>(bytes, 1), 1)
                  : std::malloc(std::max<std::size_t>(bytes, 1));
  }
  if (zeroed && !block.zeroed) std::memset(block.address, 0, bytes);
  return block.address;
}

nb::object allocate_shared(std::size_t bytes, bool zeroed) {
  if (bytes > static_cast<std::size_t>(PY_SSIZE_T_MAX)) {
    PyErr_NoMemory();
    throw nb::python_error();
  }
  auto* object = reinterpret_cast<SharedBuffer*>(
      PyType_GenericAlloc(reinterpret_cast<PyTypeObject*>(type), 0));
  if (object == nullptr) throw nb::python_error();
  nb::object owner = nb::steal(reinterpret_cast<PyObject*>(object));
  {
    const InterpreterUnlocked unlocked;  // zeroing gigabytes takes its time
    object->address = allocate(bytes, zeroed);
  }
  object->bytes = static_cast<Py_ssize_t>(bytes);
  if (object->address == nullptr) {
    PyErr_NoMemory();
    throw nb::python_error();
  }
  return owner;
}

nb::dict usage() {
  const SharedPool::Usage usage = process_pool().usage();
  nb::dict result;
  result["regions"] = usage.regions;
  result["live_bytes"] = usage.live_bytes;
  result["kept_bytes"] = usage.kept_bytes;
  result["refused"] = usage.refused;
  return result;
}

}  // namespace

void define_shared_memory(nb::module_& m) {
  m.attr("SharedBuffer") = nb::steal(create_type());
  m.def("allocate_shared", &allocate_shared,
        nb::sig("def allocate_shared(nbytes: int, zeroed: bool = False) -> SharedBuffer"),
        "nbytes"_a, "zeroed"_a = false,
        "Memory that peers can map; ordinary memory where there is none.");
  m.def(
      "allocate_block",
      [](std::size_t bytes) {
        return reinterpret_cast<std::uintptr_t>(process_pool().allocate(bytes).address);
      },
      "nbytes"_a, "The address of memory that peers can map, or 0; free it with free_block.");
  m.def(
      "free_block",
      [](std::uintptr_t address) { return process_pool().free(reinterpret_cast<void*>(address)); },
      "address"_a, "Free such memory; False when the address is none.");
  m.def("shared_memory_usage", &usage, nb::sig("def shared_memory_usage() -> dict[str, int]"),
        "Regions that peers can map, bytes in use, bytes kept for the next allocation, and "
        "allocations that took ordinary memory.");
  m.def(
      "keep_shared_memory", [](std::size_t bytes) { process_pool().set_keep_bytes(bytes); },
      "nbytes"_a, "How much freed memory may be kept for the next allocation.");
}

}  // namespace mooncake_mpi::bindings
