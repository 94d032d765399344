#include "bindings/persistent.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"

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
  if (view.resolved()) plan.spec = values[0];
  if (!valid) return nullptr;
  return give(self, new_persistent_request(std::move(view), plan, communicator->number()), send);
}

}  // namespace

PyObject* start_persistent(PyObject* self, PyObject*) {
  auto& request = *reinterpret_cast<RequestObject*>(self);
  if (request.state == RequestObject::State::kShared) return ask_owner(request, "Start");
  if (!request.persistent || request.state != RequestObject::State::kInactive) {
    return raise_error("ERR_REQUEST", "invalid request: it is not an inactive persistent request");
  }
  const PersistentPlan& plan = request.plan;
  if (plan.spec != nullptr) {
    request.view.release();
    const int rank = plan.rank == kAnySource ? runtime().constants.any_source : plan.rank;
    if (!request.view.acquire(plan.spec, !plan.send, rank)) return nullptr;
  }
  Communicator* communicator = communicator_of(plan.owner);
  if (communicator == nullptr) return nullptr;
  request.operation = nullptr;
  if (plan.rank == runtime().constants.proc_null) {
    request.completion = proc_null_completion();
  } else if (plan.send) {
    if (!post_send(*communicator, request.view.buffer(), plan.rank, plan.tag, plan.mode,
                   MatchChannel::kMessages, request.operation)) {
      return nullptr;
    }
    request.completion = {Error::kNone, false,     communicator->rank(),
                          plan.tag,     plan.rank, request.view.buffer().bytes};
  } else {
    request.operation = runtime().engine->receive(communicator->context(), MatchChannel::kMessages,
                                                  plan.rank, plan.tag, request.view.buffer());
  }
  if (request.operation != nullptr) runtime().engine->leave(request.operation);
  request.state = RequestObject::State::kActive;
  Py_RETURN_NONE;
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
