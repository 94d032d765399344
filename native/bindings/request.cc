#include "bindings/request.h"

#include <cstdio>
#include <new>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/completion.h"
#include "bindings/guard.h"
#include "bindings/notices.h"
#include "bindings/owned_buffer.h"
#include "bindings/persistent.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

using State = RequestObject::State;

PyObject* request_type = nullptr;

RequestObject& as_request(PyObject* self) noexcept {
  return *reinterpret_cast<RequestObject*>(self);
}

PyObject* allocate(PyTypeObject* type) {
  PyObject* self = PyType_GenericAlloc(type, 0);
  if (self == nullptr) return nullptr;
  RequestObject& request = as_request(self);
  new (&request.completion) Completion{};
  new (&request.view) BufferView();
  new (&request.plan) PersistentPlan{};
  request.state = State::kNull;
  return self;
}

PyObject* construct(PyTypeObject* type, PyObject*, PyObject*) {
  return allocate(type);
}

// For a call that only looks. What another thread was told waits for the interpreter's next change
// of threads, and a program that polls may have none.
void make_progress() {
  runtime().engine->progress();
  notices().settle();
}

// An active request may be dropped by its owner: the operation goes on, and its buffer with it.
void let_go(RequestObject& request) noexcept {
  Operation* operation = std::exchange(request.operation, nullptr);
  if (operation == nullptr || runtime().engine == nullptr) return;
  notices().adopt(*operation, std::move(request.view));
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  RequestObject& request = as_request(self);
  let_go(request);
  request.view.~BufferView();
  Py_CLEAR(request.finish);
  Py_CLEAR(request.result);
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

constexpr Signature<1> kWait{"Wait", {"status"}, 0};
constexpr Signature<1> kTest{"Test", {"status"}, 0};
constexpr Signature<1> kGetStatus{"Get_status", {"status"}, 0};

PyObject* or_none(PyObject* value) noexcept {
  return value != nullptr ? value : Py_None;
}

// Raises the error of a request, which belongs to the communicator of its operation.
PyObject* raise_failure(const RequestObject& request, Error error, const Completion& completion) {
  raise_completion_error(error, completion);
  set_error_context(request.context);
  return nullptr;
}

PyObject* end(RequestObject& request, PyObject* status) {
  const Error error = finish_request(request, status);
  if (error != Error::kNone) return raise_failure(request, error, request.completion);
  Py_RETURN_TRUE;
}

PyObject* wait(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<1>::Values values;
  if (!kWait.parse(args, nargs, kwnames, values) || !check_status(values[0])) return nullptr;
  RequestObject& request = as_request(self);
  if (request.state == State::kActive) {
    if (!wait_until([&] { return request.state != State::kActive || is_complete(request); }, "Wait",
                    request.operation)) {
      return nullptr;
    }
  } else if (request.state == State::kShared) {
    return ask_owner(request, "Wait", or_none(values[0]));
  }
  return end(request, values[0]);
}

PyObject* test(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<1>::Values values;
  if (!kTest.parse(args, nargs, kwnames, values) || !check_status(values[0])) return nullptr;
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Test", or_none(values[0]));
  if (request.state == State::kActive && !is_complete(request)) {
    make_progress();
    if (!is_complete(request)) Py_RETURN_FALSE;
  }
  return end(request, values[0]);
}

PyObject* get_status(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<1>::Values values;
  if (!kGetStatus.parse(args, nargs, kwnames, values) || !check_status(values[0])) return nullptr;
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Get_status", or_none(values[0]));
  Completion completion = empty_completion();
  if (request.state == State::kActive) {
    if (!is_complete(request)) make_progress();
    if (!is_complete(request)) Py_RETURN_FALSE;
    if (request.operation != nullptr && !is_finished(*request.operation)) {
      return raise_failure(request, Error::kProcessFailedPending, completion);
    }
    completion = request.operation != nullptr ? request.operation->completion : request.completion;
  }
  if (!fill_status(values[0], completion)) return nullptr;
  Py_RETURN_TRUE;
}

PyObject* cancel(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Cancel");
  if (request.state == State::kNull)
    return raise_error("ERR_REQUEST", "invalid request: it is null");
  // One that a failure has interrupted is still posted.
  if (request.operation != nullptr && !is_finished(*request.operation)) {
    runtime().engine->cancel(*request.operation, request.channel);
  }
  Py_RETURN_NONE;
}

PyObject* free_request(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Free");
  if (request.state == State::kNull)
    return raise_error("ERR_REQUEST", "invalid request: it is null");
  let_go(request);
  request.view.release();
  request.state = State::kNull;
  Py_CLEAR(request.finish);
  Py_CLEAR(request.plan.owner);
  Py_CLEAR(request.plan.spec);
  Py_RETURN_NONE;
}

PyObject* poll(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "_poll");
  if (request.state == State::kActive && !is_complete(request)) make_progress();
  return PyBool_FromLong(request.state != State::kActive || is_complete(request));
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
  std::swap(request.result, other.result);
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
      {"Wait", reported_fast<wait>(), kFast,
       "Wait($self, status=None)\n--\n\nWait for the operation to complete; returns True."},
      {"Test", reported_fast<test>(), kFast,
       "Test($self, status=None)\n--\n\nWhether the operation is complete; ends the request if "
       "so."},
      {"_wait", guarded_fast<wait>(), kFast,
       "_wait($self, status=None)\n--\n\nAs Wait, for the package: no error handler is called."},
      {"_test", guarded_fast<test>(), kFast,
       "_test($self, status=None)\n--\n\nAs Test, for the package: no error handler is called."},
      {"Get_status", reported_fast<get_status>(), kFast,
       "Get_status($self, status=None)\n--\n\nWhether the operation is complete; the request "
       "stays."},
      {"Cancel", reported<cancel, PyObject*>, METH_NOARGS,
       "Cancel($self)\n--\n\nCancel a receive that has not matched; otherwise nothing happens."},
      {"Free", reported<free_request, PyObject*>, METH_NOARGS,
       "Free($self)\n--\n\nLet go of the request; an operation under way completes by itself."},
      {"Waitall", reported_fast<wait_all>(), kFast | METH_CLASS,
       "Waitall($type, requests, statuses=None)\n--\n\nWait for all requests; returns True."},
      {"_start", guarded<start_persistent, PyObject*, PyObject*>, METH_NOARGS,
       "_start($self)\n--\n\nStart a persistent request."},
      {"_share", guarded<share, PyObject*, PyObject*>, METH_O,
       "_share($self, owner)\n--\n\nShow another request's operation from now on."},
      {"_adopt", guarded<adopt, PyObject*, PyObject*>, METH_O,
       "_adopt($self, other)\n--\n\nTake over another request's operation."},
      {"_poll", guarded<poll, PyObject*, PyObject*>, METH_NOARGS,
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

bool is_plain_request(PyObject* object) noexcept {
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  return type == runtime().hooks.request_type || type == runtime().hooks.persistent_type;
}

RequestObject* plain_owner(PyObject* object) noexcept {
  while (is_plain_request(object)) {
    RequestObject& request = as_request(object);
    if (request.state != State::kShared) return &request;
    object = request.finish;
  }
  return nullptr;
}

PyObject* ask_owner(const RequestObject& request, const char* method, PyObject* argument) {
  PyObject* owner = Py_NewRef(request.finish);
  PyObject* result = with_interpreter([&] {
    return argument == nullptr ? PyObject_CallMethod(owner, method, nullptr)
                               : PyObject_CallMethod(owner, method, "O", argument);
  });
  Py_DECREF(owner);
  return result;
}

PyObject* new_request(Operation* operation, const Completion& completion, BufferView&& view,
                      MatchChannel channel, bool any_size) {
  PyObject* self = allocate(reinterpret_cast<PyTypeObject*>(runtime().hooks.request_type));
  if (self == nullptr) {
    if (operation != nullptr) notices().adopt(*operation, std::move(view));
    return nullptr;
  }
  RequestObject& request = as_request(self);
  request.state = State::kActive;
  request.operation = operation;
  request.channel = channel;
  if (operation != nullptr) {
    request.context = operation->context_number;
    runtime().engine->leave(operation);
  }
  request.any_size = any_size;
  if (operation == nullptr) {
    request.completion = completion;
    if (view.finish() == nullptr) return self;  // done with the buffer already
  }
  request.view = std::move(view);
  return self;
}

PyObject* new_persistent_request(BufferView&& view, const PersistentPlan& plan,
                                 std::uint32_t context) {
  PyObject* self = allocate(reinterpret_cast<PyTypeObject*>(runtime().hooks.persistent_type));
  if (self == nullptr) return nullptr;
  RequestObject& request = as_request(self);
  request.state = State::kInactive;
  request.persistent = true;
  request.view = std::move(view);
  request.plan = plan;
  request.context = context;
  Py_XINCREF(request.plan.owner);
  Py_XINCREF(request.plan.spec);
  return self;
}

Completion proc_null_completion() noexcept {
  const Constants& constants = runtime().constants;
  return {Error::kNone, false, constants.proc_null, constants.any_tag};
}

Completion empty_completion() noexcept {
  const Constants& constants = runtime().constants;
  return {Error::kNone, false, constants.any_source, constants.any_tag};
}

Error finish_request(RequestObject& request, PyObject* status) {
  if (request.state != State::kActive) {
    return fill_status(status, empty_completion()) ? Error::kNone : Error::kOther;
  }
  std::unique_ptr<std::byte[]> memory;
  if (request.operation != nullptr) {
    if (!is_finished(*request.operation)) [[unlikely]] {
      return fill_status(status, empty_completion()) ? Error::kProcessFailedPending : Error::kOther;
    }
    request.completion = request.operation->completion;
    memory = std::move(request.operation->owned_buffer);
    runtime().engine->release(*std::exchange(request.operation, nullptr));
  }
  const Completion& completion = request.completion;
  request.state = request.persistent ? State::kInactive : State::kNull;

  // A truncated message is unpacked as far as it goes, but makes no object.
  const bool whole = completion.error == Error::kNone;
  const bool usable = whole || completion.error == Error::kTruncate;
  PyObject* finish = request.finish != nullptr && whole ? request.finish : request.view.finish();
  bool ok = true;
  if ((finish != nullptr || request.any_size) && usable && !completion.cancelled) {
    PyObject* received = request.any_size ? new_owned_buffer(std::move(memory), completion.bytes)
                                          : PyLong_FromUnsignedLongLong(completion.bytes);
    PyObject* result = received;
    if (received != nullptr && finish != nullptr) {
      result =
          with_interpreter([&] { return PyObject_CallFunctionObjArgs(finish, received, nullptr); });
      Py_DECREF(received);
    }
    ok = result != nullptr;
    if (ok) {
      PyObject* old = std::exchange(request.result, result);
      Py_XDECREF(old);
    }
  }
  if (!request.persistent) {
    request.view.release();
    Py_CLEAR(request.finish);
  }
  if (!ok || !fill_status(status, completion)) return Error::kOther;
  return completion.error;
}

std::string completion_message(Error error, const Completion& completion) {
  char message[192];
  if (error == Error::kProcessFailedPending) {
    return "a process that could send the message has failed; the receive is still posted "
           "(Ack_failed acknowledges the failure)";
  }
  if (error == Error::kRevoked) return "the communicator was revoked";
  const bool send = completion.dest >= 0;
  if (error == Error::kProcessFailed || error == Error::kPathLost) {
    std::snprintf(message, sizeof message, "rank %d has failed: %s, and %s",
                  send ? completion.dest : completion.source,
                  error == Error::kPathLost ? "no path to its process is left, or it has ended"
                                            : "its process has ended",
                  send ? "the message to it is lost" : "no message can be received from it");
  } else if (error == Error::kTruncate) {
    std::snprintf(message, sizeof message,
                  "message truncated: the message from rank %d with tag %d has %llu bytes, the "
                  "buffer %llu",
                  completion.source, completion.tag,
                  static_cast<unsigned long long>(completion.message_bytes),
                  static_cast<unsigned long long>(completion.bytes));
  } else {
    std::snprintf(message, sizeof message, "the message %s rank %d with tag %d failed",
                  send ? "to" : "from", send ? completion.dest : completion.source,
                  completion.tag == kAnyTag ? runtime().constants.any_tag : completion.tag);
  }
  return message;
}

PyObject* raise_completion_error(Error error, const Completion& completion) {
  if (PyErr_Occurred()) return nullptr;
  return raise_error(error, completion_message(error, completion).c_str());
}

}  // namespace mooncake_mpi::bindings
