// Requests as objects: how one is made, let go of, and asked for another's state. With the
// interpreter's lock (GIL) held.
#include "bindings/request.h"

#include <new>
#include <utility>

#include "bindings/notices.h"

namespace mooncake_mpi::bindings {

PyObject* allocate_request(PyTypeObject* type) {
  PyObject* self = PyType_GenericAlloc(type, 0);
  if (self == nullptr) return nullptr;
  RequestObject& request = as_request(self);
  new (&request.completion) Completion{};
  new (&request.view) BufferView();
  new (&request.plan) PersistentPlan{};
  request.state = RequestObject::State::kNull;
  return self;
}

void let_go(RequestObject& request) noexcept {
  Operation* operation = std::exchange(request.operation, nullptr);
  if (operation == nullptr || runtime().engine == nullptr) return;
  notices().adopt(*operation, std::move(request.view));
}

bool is_plain_request(PyObject* object) noexcept {
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  return type == runtime().hooks.request_type || type == runtime().hooks.persistent_type;
}

RequestObject* plain_owner(PyObject* object) noexcept {
  while (is_plain_request(object)) {
    RequestObject& request = as_request(object);
    if (request.state != RequestObject::State::kShared) return &request;
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

namespace {

// Inline in what every non-blocking call does.
[[gnu::always_inline]] inline PyObject* wrap(Operation* operation, const Completion& completion,
                                             BufferView&& view, MatchChannel channel,
                                             bool any_size) {
  PyObject* self = allocate_request(reinterpret_cast<PyTypeObject*>(runtime().hooks.request_type));
  if (self == nullptr) {
    if (operation != nullptr) notices().adopt(*operation, std::move(view));
    return nullptr;
  }
  RequestObject& request = as_request(self);
  request.state = RequestObject::State::kActive;
  request.operation = operation;
  request.channel = channel;
  if (operation != nullptr) request.context = operation->context_number;
  request.any_size = any_size;
  if (operation == nullptr) {
    request.completion = completion;
    if (view.finish() == nullptr) return self;  // done with the buffer already
  }
  request.view = std::move(view);
  return self;
}

}  // namespace

PyObject* new_request(Operation* operation, const Completion& completion, BufferView&& view,
                      MatchChannel channel, bool any_size) {
  PyObject* self = wrap(operation, completion, std::move(view), channel, any_size);
  if (self != nullptr && operation != nullptr) runtime().engine->leave(operation);
  return self;
}

PyObject* wrap_posting(const Posting& posting, BufferView&& view) {
  const bool send = posting.kind == Posting::Kind::kSend;
  Completion completion;
  if (posting.error != Error::kNone) {
    completion = {posting.error, false, posting.rank, posting.tag, send ? posting.rank : -1};
  } else if (send) {
    completion = sent_completion(*posting.context, posting.rank, posting.tag, posting.buffer.bytes);
  }
  PyObject* self = wrap_operation(posting.operation, completion, std::move(view), posting.channel,
                                  posting.kind == Posting::Kind::kReceiveAnySize);
  if (self == nullptr || posting.error == Error::kNone) return self;
  RequestObject& request = as_request(self);
  request.context = posting.context->number;
  request.failure = PyUnicode_FromString(posting.reason.c_str());
  if (request.failure == nullptr) PyErr_Clear();  // its completion says enough
  return self;
}

PyObject* wrap_operation(Operation* operation, const Completion& completion, BufferView&& view,
                         MatchChannel channel, bool any_size) {
  return wrap(operation, completion, std::move(view), channel, any_size);
}

PyObject* new_persistent_request(BufferView&& view, const PersistentPlan& plan,
                                 std::uint32_t context) {
  PyObject* self =
      allocate_request(reinterpret_cast<PyTypeObject*>(runtime().hooks.persistent_type));
  if (self == nullptr) return nullptr;
  RequestObject& request = as_request(self);
  request.state = RequestObject::State::kInactive;
  request.persistent = true;
  request.view = std::move(view);
  request.plan = plan;
  request.context = context;
  Py_XINCREF(request.plan.owner);
  Py_XINCREF(request.plan.spec);
  return self;
}

}  // namespace mooncake_mpi::bindings
