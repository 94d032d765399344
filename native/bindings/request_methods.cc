// Waiting for one request, looking at it, cancelling and freeing it. With the interpreter's lock
// (GIL) held, which a wait gives back while it sleeps.
#include "bindings/request_methods.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/fork.h"
#include "bindings/notices.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

using State = RequestObject::State;

// For a call that only looks. What another thread was told waits for the interpreter's next change
// of threads, and a program that polls may have none.
void make_progress() {
  runtime().engine->progress();
  notices().settle();
}

constexpr Signature<1> kWait{"Wait", {"status"}, 0};
constexpr Signature<1> kTest{"Test", {"status"}, 0};
constexpr Signature<1> kGetStatus{"Get_status", {"status"}, 0};

PyObject* or_none(PyObject* value) noexcept {
  return value != nullptr ? value : Py_None;
}

// Raises the error of a request, which belongs to the communicator of its operation.
PyObject* raise_failure(const RequestObject& request, Error error) {
  if (!PyErr_Occurred()) raise_error(error, failure_message(request, error).c_str());
  set_error_context(request.context);
  return nullptr;
}

PyObject* end(RequestObject& request, PyObject* status) {
  const Error error = finish_request(request, status);
  if (error != Error::kNone) return raise_failure(request, error);
  Py_RETURN_TRUE;
}

}  // namespace

PyObject* request_wait(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
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

PyObject* request_test(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
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

PyObject* request_get_status(PyObject* self, PyObject* const* args, Py_ssize_t nargs,
                             PyObject* kwnames) {
  Signature<1>::Values values;
  if (!kGetStatus.parse(args, nargs, kwnames, values) || !check_status(values[0])) return nullptr;
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Get_status", or_none(values[0]));
  Completion completion = empty_completion();
  if (request.state == State::kActive) {
    if (left_behind()) [[unlikely]] {
      raise_unusable();
      return nullptr;
    }
    if (!is_complete(request)) make_progress();
    if (!is_complete(request)) Py_RETURN_FALSE;
    if (request.operation != nullptr && !is_finished(*request.operation)) {
      return raise_failure(request, Error::kProcessFailedPending);
    }
    completion = request.operation != nullptr ? request.operation->completion : request.completion;
  }
  if (!fill_status(values[0], completion)) return nullptr;
  Py_RETURN_TRUE;
}

PyObject* request_cancel(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "Cancel");
  if (request.state == State::kNull)
    return raise_error("ERR_REQUEST", "invalid request: it is null");
  if (left_behind()) [[unlikely]] {  // it is the parent's
    raise_unusable();
    return nullptr;
  }
  // One that a failure has interrupted is still posted.
  if (request.operation != nullptr && !is_finished(*request.operation)) {
    runtime().engine->cancel(*request.operation, request.channel);
  }
  Py_RETURN_NONE;
}

PyObject* request_free(PyObject* self, PyObject*) {
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

PyObject* request_poll(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == State::kShared) return ask_owner(request, "_poll");
  if (request.state == State::kActive && !is_complete(request)) make_progress();
  return PyBool_FromLong(request.state != State::kActive || is_complete(request));
}

}  // namespace mooncake_mpi::bindings
