#include "bindings/owned_buffer.h"

#include <new>
#include <utility>

namespace mooncake_mpi::bindings {
namespace {

struct OwnedBuffer {
  PyObject_HEAD std::unique_ptr<std::byte[]> memory;
  Py_ssize_t bytes;
  int source;
  int tag;
};

PyObject* type = nullptr;

void dealloc(PyObject* self) {
  PyTypeObject* own_type = Py_TYPE(self);
  reinterpret_cast<OwnedBuffer*>(self)->memory.~unique_ptr();
  auto free = reinterpret_cast<freefunc>(PyType_GetSlot(own_type, Py_tp_free));
  free(self);
  Py_DECREF(own_type);
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  static std::byte empty{};
  auto* buffer = reinterpret_cast<OwnedBuffer*>(self);
  void* address = buffer->memory != nullptr ? buffer->memory.get() : &empty;
  return PyBuffer_FillInfo(view, self, address, buffer->bytes, 0, flags);
}

Py_ssize_t length(PyObject* self) {
  return reinterpret_cast<OwnedBuffer*>(self)->bytes;
}

}  // namespace

PyObject* create_owned_buffer_type() {
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("Memory that the engine allocated for a received message.")},
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
      {Py_sq_length, reinterpret_cast<void*>(length)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"mooncake_mpi._native.OwnedBuffer", sizeof(OwnedBuffer), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return type = PyType_FromSpec(&spec);
}

PyObject* new_owned_buffer(std::unique_ptr<std::byte[]> memory, const Completion& completion) {
  auto* object =
      reinterpret_cast<OwnedBuffer*>(PyType_GenericAlloc(reinterpret_cast<PyTypeObject*>(type), 0));
  if (object == nullptr) return nullptr;
  new (&object->memory) std::unique_ptr<std::byte[]>(std::move(memory));
  object->bytes = static_cast<Py_ssize_t>(completion.bytes);
  object->source = completion.source;
  object->tag = completion.tag;
  return reinterpret_cast<PyObject*>(object);
}

bool is_owned_buffer(PyObject* object) noexcept {
  return Py_TYPE(object) == reinterpret_cast<PyTypeObject*>(type);
}

OwnedMessage owned_message(PyObject* object) noexcept {
  const auto* buffer = reinterpret_cast<OwnedBuffer*>(object);
  return {buffer->memory.get(), buffer->bytes, buffer->source, buffer->tag};
}

}  // namespace mooncake_mpi::bindings
