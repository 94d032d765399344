// Persistent requests: how one is made, and how one or several are started. With the interpreter's
// lock (GIL) held; several are posted under one hold of the engine's own.
#include "bindings/persistent.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/posting.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"

namespace mooncake_mpi::bindings {
namespace {

PyObject* make(const char* method, bool send, SendMode mode, PyObject* self, PyObject* const* args,
               Py_ssize_t nargs, PyObject* kwnames) {
  const Signature<3> signature{method, {"buf", send ? "dest" : "source", "tag"}, send ? 2u : 1u};
  Signature<3>::Values values;
  if (!signature.parse(args, nargs, kwnames, values)) return nullptr;
  const Constants& constants = runtime().constants;
  PersistentPlan plan{send, mode, 0, 0, self, nullptr};
  if (!to_int(values[1], constants.any_source, plan.rank)) return nullptr;
  if (!to_int(values[2], send ? 0 : constants.any_tag, plan.tag)) return nullptr;
  BufferView view;
  if (!view.acquire(values[0], !send, plan.rank)) return nullptr;
  Communicator* communicator = communicator_of(self);  // after code of the program
  if (communicator == nullptr) return nullptr;
  const bool valid =
      send ? check_dest(*communicator, plan.rank) && check_send_tag(*communicator, plan.tag)
           : check_source(*communicator, plan.rank) && check_receive_tag(*communicator, plan.tag);
  // What is a packed copy now, or in the order of another stream, is found anew at each start.
  if (view.resolved() || view.buffer().device != nullptr) plan.spec = values[0];
  if (!valid) return nullptr;
  return give(self, new_persistent_request(std::move(view), plan, communicator->number()), send);
}

bool is_startable(const RequestObject& request) {
  if (request.persistent && request.state == RequestObject::State::kInactive) return true;
  raise_error("ERR_REQUEST", "invalid request: it is not an inactive persistent request");
  return false;
}

// A buffer that is packed is packed as it is now, by code of the program. False with the exception
// set.
bool renew_buffer(RequestObject& request) {
  const PersistentPlan& plan = request.plan;
  if (plan.spec == nullptr) return true;
  request.view.release();
  const int rank = plan.rank == kAnySource ? runtime().constants.any_source : plan.rank;
  return request.view.acquire(plan.spec, !plan.send, rank);
}

bool is_posted(const RequestObject& request) noexcept {
  return request.plan.rank != runtime().constants.proc_null;
}

// Active from now on, so that it is not started twice. False with the exception set.
bool prepare(RequestObject& request, Posting& posting) {
  if (!is_startable(request)) return false;
  const PersistentPlan& plan = request.plan;
  Communicator* communicator = communicator_of(plan.owner);
  if (communicator == nullptr) return false;
  posting.context = &communicator->context();
  posting.kind = plan.send ? Posting::Kind::kSend : Posting::Kind::kReceive;
  posting.mode = plan.mode;
  posting.rank = plan.rank;
  posting.tag = plan.tag;
  posting.buffer = request.view.buffer();
  request.operation = nullptr;
  request.state = RequestObject::State::kActive;
  Py_CLEAR(request.failure);  // of the time before
  return true;
}

void take_posted(RequestObject& request, const Posting& posting) {
  request.operation = posting.operation;
  if (posting.error != Error::kNone) {
    request.state = RequestObject::State::kInactive;
  } else if (posting.operation == nullptr) {
    request.completion =
        sent_completion(*posting.context, posting.rank, posting.tag, posting.buffer.bytes);
  }
}

// Starts all or, where one of them is not startable, none, in their order; `room` has a posting for
// each. What could not be posted is inactive again. False with the exception of the first set.
bool start(std::span<RequestObject* const> requests, Posting* room) {
  auto failed = [](const RequestObject& request) {
    set_error_context(request.context);
    return false;
  };
  for (RequestObject* request : requests) {
    if (!is_startable(*request) || !renew_buffer(*request)) return failed(*request);
  }
  std::size_t posted = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (!prepare(*requests[i], room[posted])) {
      for (RequestObject* before : requests.first(i))
        before->state = RequestObject::State::kInactive;
      return failed(*requests[i]);
    }
    if (is_posted(*requests[i])) {
      ++posted;
    } else {
      requests[i]->completion = proc_null_completion();
    }
  }
  post_and_leave({room, posted});
  const RequestObject* first_failed = nullptr;
  const Posting* reason = nullptr;
  const Posting* next = room;
  for (RequestObject* request : requests) {
    if (!is_posted(*request)) continue;
    take_posted(*request, *next);
    if (next->error != Error::kNone && first_failed == nullptr) {
      first_failed = request;
      reason = next;
    }
    ++next;
  }
  if (first_failed == nullptr) return true;
  // A signal handler's exception is there already.
  if (PyErr_Occurred() == nullptr) raise_error(reason->error, reason->reason.c_str());
  return failed(*first_failed);
}

}  // namespace

PyObject* start_persistent(PyObject* self, PyObject*) {
  RequestObject& request = as_request(self);
  if (request.state == RequestObject::State::kShared) return ask_owner(request, "Start");
  RequestObject* const one[] = {&request};
  Posting posting;
  if (!start(one, &posting)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* start_all_persistent(PyObject*, PyObject* list) {
  PyObject* others = PyList_New(0);
  if (others == nullptr) return nullptr;
  std::vector<RequestObject*> requests;
  const Py_ssize_t count = PyList_Size(list);
  requests.reserve(static_cast<std::size_t>(std::max<Py_ssize_t>(count, 0)));
  bool ok = count >= 0;
  for (Py_ssize_t i = 0; ok && i < count; ++i) {
    PyObject* item = PyList_GetItem(list, i);
    if (RequestObject* request = plain_owner(item)) {
      requests.push_back(request);
    } else {
      ok = PyList_Append(others, item) == 0;
    }
  }
  std::vector<Posting> room(requests.size());
  if (ok && start(requests, room.data())) return others;
  Py_DECREF(others);
  return nullptr;
}

PyObject* send_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return make("Send_init", true, SendMode::kStandard, self, args, nargs, kwnames);
}
PyObject* ssend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return make("Ssend_init", true, SendMode::kSynchronous, self, args, nargs, kwnames);
}
PyObject* rsend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return make("Rsend_init", true, SendMode::kReady, self, args, nargs, kwnames);
}
PyObject* bsend_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return make("Bsend_init", true, SendMode::kBuffered, self, args, nargs, kwnames);
}
PyObject* recv_init(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return make("Recv_init", false, SendMode::kStandard, self, args, nargs, kwnames);
}

}  // namespace mooncake_mpi::bindings
