// Recv and Irecv of a communicator, and the wait for a receive. With the interpreter's lock (GIL)
// held, which a wait gives back while it sleeps.
#include "bindings/receive_methods.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/interpreter_lock.h"
#include "bindings/notices.h"
#include "bindings/object_methods.h"
#include "bindings/owned_buffer.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/send_methods.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

constexpr Signature<4> kRecv{"Recv", {"buf", "source", "tag", "status"}, 1};
constexpr Signature<3> kIrecv{"Irecv", {"buf", "source", "tag"}, 1};
// Each call more is seen in what a small message costs: whatever the compiler thinks, inline.
[[gnu::always_inline]] inline bool prepare(PyObject* self, PyObject* buf, PyObject* source,
                                           PyObject* tag, ReceiveCall& call) {
  const Constants& constants = runtime().constants;
  if (!to_int(source, constants.any_source, call.source)) return false;
  if (!to_int(tag, constants.any_tag, call.tag)) return false;
  if (!call.view.acquire(buf, true, call.source)) return false;
  call.communicator = communicator_of(self);  // after code of the program, which may free it
  if (call.communicator == nullptr) return false;
  if (!check_source(*call.communicator, call.source)) return false;
  if (!check_receive_tag(*call.communicator, call.tag)) return false;
  call.proc_null = call.source == constants.proc_null;
  return !call.proc_null || check_not_revoked(*call.communicator);
}

// nullptr with the exception raised.
Operation* post(const ReceiveCall& call) {
  return post_receive(*call.communicator, call.view.buffer(), call.source, call.tag);
}

// Of a receive into a scattered datatype. False with the exception raised.
bool unpack(const BufferView& view, const Completion& completion) {
  const bool usable = completion.error == Error::kNone || completion.error == Error::kTruncate;
  if (view.finish() == nullptr || !usable || completion.cancelled) return true;
  PyObject* done = with_interpreter([&] {
    return PyObject_CallFunction(view.finish(), "K",
                                 static_cast<unsigned long long>(completion.bytes));
  });
  Py_XDECREF(done);
  return done != nullptr;
}

}  // namespace

bool prepare_receive(PyObject* self, PyObject* buf, PyObject* source, PyObject* tag,
                     ReceiveCall& call) {
  return prepare(self, buf, source, tag, call);
}

Operation* post_receive_to_device(Context& context, const Buffer& buffer, int source, int tag,
                                  UnexpectedMessage* message) {
  Engine& engine = *runtime().engine;
  auto posted = [&] {
    const InterpreterUnlocked unlocked;  // the device's driver is asked
    return engine.receive_device(context, MatchChannel::kMessages, source, tag, buffer, message);
  }();
  if (posted) return posted.value();
  raise_error(posted.failure().error, posted.failure().message.c_str());
  return nullptr;
}

void give_up_receive(Operation& operation, BufferView& view, MatchChannel channel) {
  Engine& engine = *runtime().engine;
  if (engine.cancel(operation, channel)) {
    engine.release(operation);
  } else if (!wait_to_leave([&] { return engine.give_up(operation); })) {
    notices().adopt(operation, std::move(view));
  }
}

PyObject* wait_receive(Operation& operation, BufferView& view, PyObject* status,
                       Received received) {
  if (!wait_until([&] { return is_done(operation); }, "Recv", &operation)) {
    give_up_receive(operation, view, MatchChannel::kMessages);
    return nullptr;
  }
  if (!is_finished(operation)) [[unlikely]] {
    if (runtime().engine->cancel(operation, MatchChannel::kMessages)) {
      runtime().engine->release(operation);
      return raise_completion_error(Error::kProcessFailedPending, {});
    }
    // It has matched since.
    if (!wait_until([&] { return is_finished(operation); }, "Recv", &operation)) {
      give_up_receive(operation, view, MatchChannel::kMessages);
      return nullptr;
    }
  }
  // An exception that leaves the caller before it has the object would lose the message.
  if (received != Received::kNothing && PyErr_CheckSignals() != 0) {
    give_up_receive(operation, view, MatchChannel::kMessages);
    return nullptr;
  }
  if (has_no_path(operation.completion)) [[unlikely]]
    return raise_path_lost(operation, status);
  const Completion completion = operation.completion;
  if (received == Received::kNothing && !unpack(view, completion)) [[unlikely]] {
    if (was_interrupted()) {
      give_up_receive(operation, view, MatchChannel::kMessages);
    } else {
      runtime().engine->release(operation);
    }
    return nullptr;
  }
  std::unique_ptr<std::byte[]> memory = std::move(operation.owned_buffer);
  runtime().engine->release(operation);
  PyObject* result = nullptr;
  if (received == Received::kMemory) {
    result = new_owned_buffer(std::move(memory), completion);
  } else if (received == Received::kLength) {
    result = PyLong_FromUnsignedLongLong(completion.bytes);
  } else {
    result = Py_NewRef(Py_None);
  }
  if (result == nullptr) return nullptr;
  if (!fill_status(status, completion)) {
    Py_DECREF(result);
    return nullptr;
  }
  if (completion.error == Error::kNone) return result;
  Py_DECREF(result);
  return raise_completion_error(completion.error, completion);
}

PyObject* comm_recv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<4>::Values values;
  if (!kRecv.parse(args, nargs, kwnames, values) || !check_status(values[3])) return nullptr;
  ReceiveCall call;
  if (!prepare(self, values[0], values[1], values[2], call)) return nullptr;
  if (call.proc_null) {
    if (!fill_status(values[3], proc_null_completion())) return nullptr;
    Py_RETURN_NONE;
  }
  Operation* operation = post(call);
  if (operation == nullptr) return nullptr;
  return wait_receive(*operation, call.view, values[3]);
}

PyObject* comm_irecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  Signature<3>::Values values;
  if (!kIrecv.parse(args, nargs, kwnames, values)) return nullptr;
  ReceiveCall call;
  if (!prepare(self, values[0], values[1], values[2], call)) return nullptr;
  if (call.proc_null) {
    return give(self, new_request(nullptr, proc_null_completion(), std::move(call.view)), false);
  }
  Operation* operation = post(call);
  if (operation == nullptr) return nullptr;
  return give(self, new_request(operation, {}, std::move(call.view)), false);
}

}  // namespace mooncake_mpi::bindings
