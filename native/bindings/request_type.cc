// The Python type `Request`: its life, its properties and the table of its methods. With the
// interpreter's lock (GIL) held.
#include "bindings/request_type.h"

#include <utility>

#include "bindings/guard.h"
#include "bindings/persistent.h"
#include "bindings/request.h"
#include "bindings/request_methods.h"
#include "bindings/request_sets.h"

namespace mooncake_mpi::bindings {
namespace {

using State = RequestObject::State;

PyObject* request_type = nullptr;

PyObject* construct(PyTypeObject* type, PyObject*, PyObject*) {
  return allocate_request(type);
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  RequestObject& request = as_request(self);
  let_go(request);
  request.view.~BufferView();
  Py_CLEAR(request.finish);
  Py_CLEAR(request.received);
  Py_CLEAR(request.result);
  Py_CLEAR(request.failure);
  Py_CLEAR(request.plan.owner);
  Py_CLEAR(request.plan.spec);
  auto free = reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free));
  free(self);
  Py_DECREF(type);
}

int is_true(PyObject* self) {
  const RequestObject& request = as_request(self);
  if (request.state == State::kShared) return PyObject_IsTrue(request.finish);
  return request.state != State::kNull ? 1 : 0;
}

// A null request shares another's operation from now on, as the copy of a handle does.
PyObject* share(PyObject* self, PyObject* owner) {
  RequestObject& request = as_request(self);
  if (request.state != State::kNull) {
    PyErr_SetString(PyExc_ValueError, "the request has an operation of its own");
    return nullptr;
  }
  request.state = State::kShared;
  request.finish = Py_NewRef(owner);
  Py_RETURN_NONE;
}

// The operation moves from the other request, which becomes null, to this one.
PyObject* adopt(PyObject* self, PyObject* other_object) {
  if (!PyObject_TypeCheck(other_object, reinterpret_cast<PyTypeObject*>(request_type))) {
    PyErr_SetString(PyExc_TypeError, "expected a Request");
    return nullptr;
  }
  RequestObject& request = as_request(self);
  RequestObject& other = as_request(other_object);
  std::swap(request.state, other.state);
  std::swap(request.persistent, other.persistent);
  std::swap(request.any_size, other.any_size);
  std::swap(request.channel, other.channel);
  std::swap(request.context, other.context);
  std::swap(request.operation, other.operation);
  std::swap(request.completion, other.completion);
  std::swap(request.view, other.view);
  std::swap(request.finish, other.finish);
  std::swap(request.received, other.received);
  std::swap(request.result, other.result);
  std::swap(request.failure, other.failure);
  std::swap(request.plan, other.plan);
  Py_RETURN_NONE;
}

PyObject* get_state(PyObject* self, void*) {
  switch (as_request(self).state) {
    case State::kNull:
      return PyUnicode_FromString("null");
    case State::kActive:
      return PyUnicode_FromString("active");
    case State::kInactive:
      return PyUnicode_FromString("inactive");
    case State::kShared:
      return PyUnicode_FromString("shared");
  }
  Py_RETURN_NONE;
}

PyObject* get_object(PyObject* object) {
  return Py_NewRef(object != nullptr ? object : Py_None);
}

int set_object(PyObject*& slot, PyObject* value) {
  PyObject* old = slot;
  slot = value == nullptr || value == Py_None ? nullptr : Py_NewRef(value);
  Py_XDECREF(old);
  return 0;
}

PyObject* get_context(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(as_request(self).context);
}

PyObject* get_shared(PyObject* self, void*) {
  const RequestObject& request = as_request(self);
  return get_object(request.state == State::kShared ? request.finish : nullptr);
}
PyObject* get_finish(PyObject* self, void*) {
  return get_object(as_request(self).finish);
}
int set_finish(PyObject* self, PyObject* value, void*) {
  return set_object(as_request(self).finish, value);
}
PyObject* get_result(PyObject* self, void*) {
  return get_object(as_request(self).result);
}
int set_result(PyObject* self, PyObject* value, void*) {
  return set_object(as_request(self).result, value);
}

constexpr int kFast = METH_FASTCALL | METH_KEYWORDS;

}  // namespace

PyObject* create_request_type() {
  static PyMethodDef methods[] = {
      {"Wait", reported_fast<request_wait>(), kFast,
       "Wait($self, status=None)\n--\n\nWait for the operation to complete; returns True."},
      {"Test", reported_fast<request_test>(), kFast,
       "Test($self, status=None)\n--\n\nWhether the operation is complete; ends the request if "
       "so."},
      {"_wait", guarded_fast<request_wait>(), kFast,
       "_wait($self, status=None)\n--\n\nAs Wait, for the package: no error handler is called."},
      {"_test", guarded_fast<request_test>(), kFast,
       "_test($self, status=None)\n--\n\nAs Test, for the package: no error handler is called."},
      {"Get_status", reported_fast<request_get_status>(), kFast,
       "Get_status($self, status=None)\n--\n\nWhether the operation is complete; the request "
       "stays."},
      {"Cancel", reported<request_cancel, PyObject*>, METH_NOARGS,
       "Cancel($self)\n--\n\nCancel a receive that has not matched; otherwise nothing happens."},
      {"Free", reported<request_free, PyObject*>, METH_NOARGS,
       "Free($self)\n--\n\nLet go of the request; an operation under way completes by itself."},
      {"Waitall", reported_fast<wait_all>(), kFast | METH_CLASS,
       "Waitall($type, requests, statuses=None)\n--\n\nWait for all requests; returns True."},
      {"_start", guarded<start_persistent, PyObject*, PyObject*>, METH_NOARGS,
       "_start($self)\n--\n\nStart a persistent request."},
      {"_start_all", guarded<start_all_persistent, PyObject*, PyObject*>, METH_O | METH_STATIC,
       "_start_all(requests, /)\n--\n\nStart the engine's own of a list of persistent requests, as "
       "one; returns the others."},
      {"_share", guarded<share, PyObject*, PyObject*>, METH_O,
       "_share($self, owner)\n--\n\nShow another request's operation from now on."},
      {"_adopt", guarded<adopt, PyObject*, PyObject*>, METH_O,
       "_adopt($self, other)\n--\n\nTake over another request's operation."},
      {"_poll", guarded<request_poll, PyObject*, PyObject*>, METH_NOARGS,
       "_poll($self)\n--\n\nMake progress once; whether the request is complete or inactive."},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyGetSetDef properties[] = {
      {"_state", get_state, nullptr, "'null', 'active', 'inactive' or 'shared'.", nullptr},
      {"_shared", get_shared, nullptr, "The request whose operation this one shares.", nullptr},
      {"_context", get_context, nullptr, "The number of its communicator's context, if known.",
       nullptr},
      {"_finish", get_finish, set_finish, "Callable that makes the result at completion.", nullptr},
      {"_result", get_result, set_result, "What the request's completion made.", nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr},
  };
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("A non-blocking operation of the engine.")},
      {Py_tp_new, reinterpret_cast<void*>(construct)},
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_tp_methods, methods},
      {Py_tp_getset, properties},
      {Py_nb_bool, reinterpret_cast<void*>(is_true)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"mooncake_mpi._native.Request", sizeof(RequestObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
  return request_type = PyType_FromSpec(&spec);
}

PyObject* request_base_type() noexcept {
  return request_type;
}

}  // namespace mooncake_mpi::bindings
