// send and recv of a communicator: the way of most objects without a frame of Python's, any other
// by the package's functions. With the interpreter's lock (GIL) held, which a wait gives back while
// it sleeps.
#include "bindings/object_methods.h"

#include "bindings/arguments.h"
#include "bindings/buffer_view.h"
#include "bindings/communicator.h"
#include "bindings/interpreter_lock.h"
#include "bindings/owned_buffer.h"
#include "bindings/owned_reference.h"
#include "bindings/receive_methods.h"
#include "bindings/request_completion.h"
#include "bindings/runtime.h"
#include "bindings/send_methods.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr Signature<3> kSend{"send", {"obj", "dest", "tag"}, 2};
constexpr Signature<4> kRecv{"recv", {"buf", "source", "tag", "status"}, 0};
// From this size on a message may have buffers, which are left where they have arrived.
constexpr Py_ssize_t kLarge = 256 * 1024;

Pickling pickling;

// What `function` gives for the arguments, before which there is room for one more.
PyObject* call(PyObject* function, PyObject* const* arguments, std::size_t count) {
  return with_interpreter([&] {
    return PyObject_Vectorcall(function, arguments, count | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               nullptr);
  });
}

// Objects of these types have no buffers of their own: their pickler need not look for any.
bool is_plain(PyObject* object) noexcept {
  return PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || object == Py_None ||
         PyFloat_CheckExact(object) || PyBytes_CheckExact(object) || PyBool_Check(object) ||
         PyComplex_CheckExact(object);
}

// The stream of a plain object; nullptr with the exception set.
PyObject* pickled(PyObject* object) {
  PyObject* arguments[] = {nullptr, object};
  PyObject* stream = call(pickling.dumps, arguments + 1, 1);
  if (stream == nullptr || PyBytes_CheckExact(stream)) [[likely]]
    return stream;
  PyObject* name = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(stream)), "__name__");
  if (name != nullptr) PyErr_Format(PyExc_TypeError, "expected bytes, %U found", name);
  Py_XDECREF(name);
  Py_DECREF(stream);
  return nullptr;
}

// None, or nullptr with the exception set. Of no rank that is PROC_NULL.
PyObject* send_plain(PyObject* self, PyObject* object, int dest, int tag) {
  const Owned stream(pickled(object));
  if (stream.get() == nullptr) return nullptr;
  Communicator* communicator = communicator_of(self);  // after code of the program
  if (communicator == nullptr || !check_dest(*communicator, dest) ||
      !check_send_tag(*communicator, tag)) {
    return nullptr;
  }
  const Buffer buffer{reinterpret_cast<std::byte*>(PyBytes_AsString(stream.get())),
                      static_cast<std::uint64_t>(PyBytes_Size(stream.get()))};
  Operation* operation = nullptr;
  if (!post_send(*communicator, buffer, dest, tag, SendMode::kStandard, MatchChannel::kMessages,
                 operation)) {
    return nullptr;
  }
  if (operation != nullptr) {
    BufferView view;
    view.borrow(buffer, stream.get());
    if (!wait_send(*operation, view)) return nullptr;
  }
  return Py_NewRef(Py_None);
}

// The object of an OwnedBuffer; nullptr with the exception set.
PyObject* loaded(PyObject* message) {
  const Py_ssize_t bytes = owned_message(message).bytes;
  if (bytes == 0) return Py_NewRef(Py_None);
  PyObject* arguments[] = {nullptr, message};
  return call(bytes < kLarge ? pickling.loads : pickling.load, arguments + 1, 1);
}

// Takes the exception that is set away, and sets it again.
class SetAside {
 public:
  SetAside() noexcept {
    PyErr_Fetch(&type_, &value_, &traceback_);
    PyErr_NormalizeException(&type_, &value_, &traceback_);
    if (traceback_ != nullptr) PyException_SetTraceback(value_, traceback_);
  }
  ~SetAside() { PyErr_Restore(type_, value_, traceback_); }
  SetAside(const SetAside&) = delete;
  SetAside& operator=(const SetAside&) = delete;
  PyObject* value() const noexcept { return value_; }

 private:
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* traceback_ = nullptr;
};

// The package decides what becomes of a message whose object was not made.
[[gnu::cold, gnu::noinline]] void not_loaded(PyObject* native, PyObject* message) {
  const SetAside exception;
  PyObject* arguments[] = {nullptr, native, message, exception.value()};
  const Owned done(call(pickling.not_loaded, arguments + 1, 3));
  if (done.get() == nullptr) PyErr_Clear();
}

}  // namespace

void set_pickling(const Pickling& given) noexcept {
  pickling = given;
}

bool was_interrupted() {
  const SetAside exception;
  PyObject* arguments[] = {nullptr, exception.value()};
  const Owned answer(call(pickling.is_interruption, arguments + 1, 1));
  if (answer.get() == nullptr) PyErr_Clear();
  return answer.get() == Py_True;
}

PyObject* comm_send_object(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames) {
  Signature<3>::Values values;
  if (!kSend.parse(args, nargs, kwnames, values)) return nullptr;
  int dest = 0;
  int tag = 0;
  if (!to_int(values[1], 0, dest) || !to_int(values[2], 0, tag)) return nullptr;
  if (is_plain(values[0]) && dest != runtime().constants.proc_null) [[likely]]
    return send_plain(self, values[0], dest, tag);
  const Owned dest_number(PyLong_FromLong(dest));
  const Owned tag_number(PyLong_FromLong(tag));
  if (dest_number.get() == nullptr || tag_number.get() == nullptr) return nullptr;
  PyObject* arguments[] = {nullptr, self, values[0], dest_number.get(), tag_number.get()};
  return call(pickling.send, arguments + 1, 4);
}

PyObject* comm_recv_object(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                           PyObject* kwnames) {
  Signature<4>::Values values;
  if (!kRecv.parse(args, nargs, kwnames, values) || !check_status(values[3])) return nullptr;
  const Constants& constants = runtime().constants;
  int source = 0;
  int tag = 0;
  if (!to_int(values[1], constants.any_source, source)) return nullptr;
  if (!to_int(values[2], constants.any_tag, tag)) return nullptr;
  if (values[0] != nullptr && values[0] != Py_None) [[unlikely]] {
    const Owned source_number(PyLong_FromLong(source));
    const Owned tag_number(PyLong_FromLong(tag));
    if (source_number.get() == nullptr || tag_number.get() == nullptr) return nullptr;
    PyObject* status = values[3] != nullptr ? values[3] : Py_None;
    PyObject* arguments[] = {nullptr,          self,  values[0], source_number.get(),
                             tag_number.get(), status};
    return call(pickling.recv, arguments + 1, 5);
  }
  Communicator* communicator = communicator_of(self);  // after code of the program
  if (communicator == nullptr || !check_source(*communicator, source) ||
      !check_receive_tag(*communicator, tag)) {
    return nullptr;
  }
  if (source == constants.proc_null) {
    if (!check_not_revoked(*communicator) || !fill_status(values[3], proc_null_completion())) {
      return nullptr;
    }
    return Py_NewRef(Py_None);
  }
  const Owned native(Py_NewRef(native_side_of(self)));  // unpickling may free the communicator
  Operation* operation = runtime().engine->receive_any_size(communicator->context(),
                                                            MatchChannel::kMessages, source, tag);
  BufferView none;
  const Owned message(wait_receive(*operation, none, values[3], Received::kMemory));
  if (message.get() == nullptr) return nullptr;
  PyObject* object = loaded(message.get());
  if (object == nullptr) [[unlikely]]
    not_loaded(native.get(), message.get());
  return object;
}

}  // namespace mooncake_mpi::bindings
