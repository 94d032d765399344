// Send, Isend and their modes, of a communicator, and the wait for a send. With the interpreter's
// lock (GIL) held, which a wait gives back while it sleeps.
#include "bindings/send_methods.h"

#include <utility>

#include "bindings/arguments.h"
#include "bindings/interpreter_lock.h"
#include "bindings/notices.h"
#include "bindings/posting.h"
#include "bindings/request.h"
#include "bindings/request_completion.h"
#include "bindings/waiting.h"

namespace mooncake_mpi::bindings {
namespace {

struct SendCall {
  Communicator* communicator = nullptr;
  BufferView view;
  int dest = 0;
  int tag = 0;
  bool proc_null = false;
};

bool prepare(const char* method, PyObject* self, PyObject* const* args, Py_ssize_t nargs,
             PyObject* kwnames, SendCall& call) {
  const Signature<3> signature{method, {"buf", "dest", "tag"}, 2};
  Signature<3>::Values values;
  if (!signature.parse(args, nargs, kwnames, values)) return false;
  if (!to_int(values[1], 0, call.dest) || !to_int(values[2], 0, call.tag)) return false;
  if (!call.view.acquire(values[0], false, call.dest)) return false;
  call.communicator = communicator_of(self);  // after code of the program, which may free it
  if (call.communicator == nullptr) return false;
  if (!check_dest(*call.communicator, call.dest) || !check_send_tag(*call.communicator, call.tag)) {
    return false;
  }
  call.proc_null = call.dest == runtime().constants.proc_null;
  return !call.proc_null || check_not_revoked(*call.communicator);
}

// A small message costs so little that one call more is seen: whatever the compiler thinks, inline.
[[gnu::always_inline]] inline PyObject* blocking(const char* method, SendMode mode, PyObject* self,
                                                 PyObject* const* args, Py_ssize_t nargs,
                                                 PyObject* kwnames) {
  SendCall call;
  if (!prepare(method, self, args, nargs, kwnames, call)) return nullptr;
  if (call.proc_null) Py_RETURN_NONE;
  Operation* operation = nullptr;
  if (!post_send(*call.communicator, call.view.buffer(), call.dest, call.tag, mode,
                 MatchChannel::kMessages, operation)) {
    return nullptr;
  }
  if (operation == nullptr) Py_RETURN_NONE;
  if (!wait_send(*operation, call.view)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* non_blocking(const char* method, SendMode mode, PyObject* self, PyObject* const* args,
                       Py_ssize_t nargs, PyObject* kwnames) {
  SendCall call;
  if (!prepare(method, self, args, nargs, kwnames, call)) return nullptr;
  if (call.proc_null) {
    return give(self, new_request(nullptr, proc_null_completion(), std::move(call.view)), true);
  }
  Operation* operation = nullptr;
  if (!post_send(*call.communicator, call.view.buffer(), call.dest, call.tag, mode,
                 MatchChannel::kMessages, operation)) {
    return nullptr;
  }
  const Completion completion =
      sent_completion(call.communicator->context(), call.dest, call.tag, call.view.buffer().bytes);
  return give(self, new_request(operation, completion, std::move(call.view)), true);
}

// The operation that `start` gives; false with the exception raised.
template <class Start>
bool take_started(Start&& start, Operation*& operation) {
  Result<Operation*> sent = nullptr;
  try {
    sent = start();
  } catch (const std::bad_alloc&) {  // the caller may have a receive to take back
    PyErr_NoMemory();
    return false;
  }
  if (!sent) {
    raise_error(sent.failure().error, sent.failure().message.c_str());
    return false;
  }
  operation = sent.value();
  return true;
}

// The device's driver is asked: other Python threads run.
Result<Operation*> send_from_device(Communicator& communicator, const Buffer& buffer, int dest,
                                    int tag, SendMode mode, MatchChannel channel) {
  const ContextHold hold(communicator);
  const InterpreterUnlocked unlocked;
  return runtime().engine->send(hold.context(), channel, dest, tag, buffer, mode);
}

// False with the exception raised.
bool buffered_from_device(Communicator& communicator, const Buffer& buffer, int dest, int tag,
                          MatchChannel channel) {
  const ContextHold hold(communicator);
  BufferedCopy copied;
  if (!copy_to_host(buffer, copied)) {
    if (copied.error != Error::kNone) raise_error(copied.error, copied.reason.c_str());
    return false;
  }
  Operation* operation = nullptr;
  if (!take_started(
          [&] {
            return runtime().engine->send(hold.context(), channel, dest, tag, copied.buffer,
                                          SendMode::kBuffered);
          },
          operation)) {
    return false;
  }
  runtime().engine->release(*operation);
  runtime().engine->leave(nullptr);
  return true;
}

// What cannot be sent at once, apart: a small message does not pay for it.
[[gnu::noinline]] bool post_operation(Communicator& communicator, const Buffer& buffer, int dest,
                                      int tag, SendMode mode, MatchChannel channel,
                                      Operation*& operation) {
  Engine& engine = *runtime().engine;
  if (mode == SendMode::kBuffered && buffer.device != nullptr) [[unlikely]]
    return buffered_from_device(communicator, buffer, dest, tag, channel);
  if (!take_started(
          [&] {
            if (buffer.device != nullptr) [[unlikely]]
              return send_from_device(communicator, buffer, dest, tag, mode, channel);
            return engine.send(communicator.context(), channel, dest, tag, buffer, mode);
          },
          operation)) {
    return false;
  }
  if (mode == SendMode::kBuffered) {  // the engine has its copy: complete for the caller
    engine.release(*operation);
    engine.leave(nullptr);
    operation = nullptr;
  }
  return true;
}

}  // namespace

bool post_send(Communicator& communicator, const Buffer& buffer, int dest, int tag, SendMode mode,
               MatchChannel channel, Operation*& operation) {
  operation = nullptr;
  if (mode != SendMode::kSynchronous && buffer.device == nullptr &&
      runtime().engine->try_send_now(communicator.context(), channel, dest, tag, buffer)) {
    return true;
  }
  return post_operation(communicator, buffer, dest, tag, mode, channel, operation);
}

bool post_pieces(Communicator& communicator, std::unique_ptr<Pieces> pieces, int dest, int tag,
                 SendMode mode, Operation*& operation) {
  return take_started(
      [&] {
        return runtime().engine->send_pieces(communicator.context(), MatchChannel::kMessages, dest,
                                             tag, std::move(pieces), mode);
      },
      operation);
}

void give_up_send(Operation& operation, BufferView& view) {
  Engine& engine = *runtime().engine;
  if (engine.cancel(operation, MatchChannel::kMessages)) {
    engine.release(operation);
    return;
  }
  wait_to_leave([&] { return engine.leave_send(operation); });
  notices().adopt(operation, std::move(view));
}

bool wait_send(Operation& operation, BufferView& view) {
  if (!wait_until([&] { return is_done(operation); }, "Send", &operation)) {
    give_up_send(operation, view);
    return false;
  }
  if (has_no_path(operation.completion)) [[unlikely]] {
    raise_path_lost(operation, nullptr);
    return false;
  }
  const Completion completion = operation.completion;
  runtime().engine->release(operation);
  if (completion.error != Error::kNone) {
    raise_completion_error(completion.error, completion);
    return false;
  }
  return true;
}

PyObject* comm_send(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return blocking("Send", SendMode::kStandard, self, args, nargs, kwnames);
}
PyObject* comm_ssend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return blocking("Ssend", SendMode::kSynchronous, self, args, nargs, kwnames);
}
PyObject* comm_rsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return blocking("Rsend", SendMode::kReady, self, args, nargs, kwnames);
}
PyObject* comm_bsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return blocking("Bsend", SendMode::kBuffered, self, args, nargs, kwnames);
}
PyObject* comm_isend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return non_blocking("Isend", SendMode::kStandard, self, args, nargs, kwnames);
}
PyObject* comm_issend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return non_blocking("Issend", SendMode::kSynchronous, self, args, nargs, kwnames);
}
PyObject* comm_irsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return non_blocking("Irsend", SendMode::kReady, self, args, nargs, kwnames);
}
PyObject* comm_ibsend(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
  return non_blocking("Ibsend", SendMode::kBuffered, self, args, nargs, kwnames);
}

}  // namespace mooncake_mpi::bindings
