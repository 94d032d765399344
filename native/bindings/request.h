#pragma once

#include <Python.h>

#include "bindings/buffer_view.h"
#include "bindings/communicator.h"
#include "bindings/interpreter_lock.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {

// What a persistent request does at every Start.
struct PersistentPlan {
  bool send = false;
  SendMode mode = SendMode::kStandard;
  int rank = 0;
  int tag = 0;
  PyObject* owner = nullptr;  // the communicator object, kept alive
  PyObject* spec = nullptr;   // a buffer that is packed, anew at every Start
};

// The Python type `Request`. A raw type: a request is made for every non-blocking call, and this
// costs a third of what a wrapped C++ class would.
struct RequestObject {
  // kShared: the operation is another request's, the owner, and whatever is asked is asked of that.
  PyObject_HEAD enum class State : std::uint8_t { kNull, kActive, kInactive, kShared };

  State state;
  bool persistent;
  bool any_size;  // the result is an OwnedBuffer
  MatchChannel channel;
  std::uint32_t context;  // whose error handler the operation's failure goes to; 0: not known
  Operation* operation;   // nullptr while active: completed at once, see `completion`
  Completion completion;
  BufferView view;
  PyObject* finish;    // callable(bytes received or OwnedBuffer) -> result
                       // kShared: the owner, of the engine, made in Python, or of the MPI library
  PyObject* received;  // what `finish` is called with again, since a signal interrupted it
  PyObject* result;
  PyObject* failure;  // why the operation could not be started, for people, where that is known
  PersistentPlan plan;
};

inline RequestObject& as_request(PyObject* self) noexcept {
  return *reinterpret_cast<RequestObject*>(self);
}

// A null request; `type` is one of requests.
PyObject* allocate_request(PyTypeObject* type);
// An active request may be dropped by its owner: the operation goes on, and its buffer with it.
void let_go(RequestObject& request) noexcept;

// A request whose whole state is in its RequestObject. Those of a subclass (an operation of several
// parts, or a user's) may say otherwise in Python.
bool is_plain_request(PyObject* object) noexcept;

// The request whose state `object`, a plain request, shows; nullptr if that one is not plain.
RequestObject* plain_owner(PyObject* object) noexcept;
// Asks the request that `request` shares: a call of its method, with `argument` unless it is
// nullptr.
PyObject* ask_owner(const RequestObject& request, const char* method, PyObject* argument = nullptr);

// What `communicator` gives for a new request: the request, or where a program wrapped the
// communicator by hand, one that the MPI library knows too. Takes over the reference.
inline PyObject* give(PyObject* communicator, PyObject* request, bool send) {
  PyObject* giver = giver_of(communicator);
  if (giver == Py_None || request == nullptr) [[likely]]
    return request;
  PyObject* given = with_interpreter([&] {
    return PyObject_CallFunctionObjArgs(giver, request, send ? Py_True : Py_False, nullptr);
  });
  Py_DECREF(request);
  return given;
}

// An active request that owns `view`. `operation` is nullptr when the call completed at once.
PyObject* new_request(Operation* operation, const Completion& completion, BufferView&& view,
                      MatchChannel channel = MatchChannel::kMessages, bool any_size = false);
// The same where the engine looks after the operation already, as after Engine::post_and_leave().
PyObject* wrap_operation(Operation* operation, const Completion& completion, BufferView&& view,
                         MatchChannel channel = MatchChannel::kMessages, bool any_size = false);
// The request of what was posted: active, or complete with its error where it could not be started.
PyObject* wrap_posting(const Posting& posting, BufferView&& view);
// What a send that is done at once has come to.
inline Completion sent_completion(const Context& context, int dest, int tag, std::uint64_t bytes) {
  return {Error::kNone, false, context.rank, tag, dest, bytes};
}
// An inactive persistent one.
PyObject* new_persistent_request(BufferView&& view, const PersistentPlan& plan,
                                 std::uint32_t context);

inline bool is_complete(const RequestObject& request) noexcept {
  return request.operation == nullptr ||
         request.operation->done.load(std::memory_order_acquire) != 0;
}

}  // namespace mooncake_mpi::bindings
