// The end of a request: its status, what its completion makes, and the error that it raises. With
// the interpreter's lock (GIL) held; an operation is given back under the engine's own lock.
#include "bindings/request_completion.h"

#include <cstdio>
#include <memory>
#include <utility>

#include "bindings/fork.h"
#include "bindings/object_methods.h"
#include "bindings/owned_buffer.h"

namespace mooncake_mpi::bindings {
namespace {

// What the request's completion makes: of the message in `memory`, or of the number of bytes. False
// with a Python error set.
bool make_result(RequestObject& request, bool whole, std::unique_ptr<std::byte[]> memory) {
  const Completion& completion = request.completion;
  PyObject* finish = request.finish != nullptr && whole ? request.finish : request.view.finish();
  if (finish == nullptr && !request.any_size) return true;
  PyObject* received = std::exchange(request.received, nullptr);
  if (received == nullptr) {
    received = request.any_size ? new_owned_buffer(std::move(memory), completion)
                                : PyLong_FromUnsignedLongLong(completion.bytes);
  }
  PyObject* result = received;
  if (received != nullptr && finish != nullptr) {
    result =
        with_interpreter([&] { return PyObject_CallFunctionObjArgs(finish, received, nullptr); });
    if (result == nullptr && was_interrupted()) {
      request.received = received;
    } else {
      Py_DECREF(received);
    }
  }
  if (result == nullptr) return false;
  PyObject* old = std::exchange(request.result, result);
  Py_XDECREF(old);
  return true;
}

}  // namespace

Completion proc_null_completion() noexcept {
  const Constants& constants = runtime().constants;
  return {Error::kNone, false, constants.proc_null, constants.any_tag};
}

Completion empty_completion() noexcept {
  const Constants& constants = runtime().constants;
  return {Error::kNone, false, constants.any_source, constants.any_tag};
}

Error finish_request(RequestObject& request, PyObject* status) {
  if (request.state != RequestObject::State::kActive) {
    return fill_status(status, empty_completion()) ? Error::kNone : Error::kOther;
  }
  if (left_behind()) [[unlikely]] {  // it is the parent's
    raise_unusable();
    return Error::kOther;
  }
  std::unique_ptr<std::byte[]> memory;
  if (request.operation != nullptr) {
    if (!is_finished(*request.operation)) [[unlikely]] {
      return fill_status(status, empty_completion()) ? Error::kProcessFailedPending : Error::kOther;
    }
    request.completion = request.operation->completion;
    if (request.any_size) memory = std::move(request.operation->owned_buffer);
    if (has_no_path(request.completion) && request.failure == nullptr) [[unlikely]] {
      const std::string why = runtime().engine->why_lost(*request.operation);
      const std::string text =
          completion_message(request.completion.error, request.completion, &why);
      request.failure = PyUnicode_FromString(text.c_str());
      if (request.failure == nullptr) PyErr_Clear();  // its completion says enough
    }
    runtime().engine->release(*std::exchange(request.operation, nullptr));
  }
  const Completion& completion = request.completion;
  request.state =
      request.persistent ? RequestObject::State::kInactive : RequestObject::State::kNull;

  // A truncated message is unpacked as far as it goes, but makes no object.
  const bool whole = completion.error == Error::kNone;
  const bool usable = whole || completion.error == Error::kTruncate;
  const bool ok = !usable || completion.cancelled || make_result(request, whole, std::move(memory));
  if (!ok && request.received != nullptr) [[unlikely]] {  // it is asked again for its result
    request.state = RequestObject::State::kActive;
    return Error::kOther;
  }
  if (!request.persistent) {
    request.view.release();
    Py_CLEAR(request.finish);
  }
  if (!ok || !fill_status(status, completion)) return Error::kOther;
  return completion.error;
}

PyObject* raise_path_lost(Operation& operation, PyObject* status) {
  const Completion completion = operation.completion;
  const std::string why = runtime().engine->why_lost(operation);
  runtime().engine->release(operation);
  if (!fill_status(status, completion)) return nullptr;
  return raise_completion_error(completion.error, completion, &why);
}

std::string completion_message(Error error, const Completion& completion, const std::string* why) {
  char message[192];
  if (error == Error::kProcessFailedPending) {
    return "a process that could send the message has failed; the receive is still posted "
           "(Ack_failed acknowledges the failure)";
  }
  if (error == Error::kRevoked) return "the communicator was revoked";
  if (error == Error::kUnreachable) {
    std::string text = "no message can be received from ";
    text += completion.source == kAnySource ? "any other rank of the communicator"
                                            : "rank " + std::to_string(completion.source);
    text += ": no lane reaches ";
    text += completion.source == kAnySource ? "one" : "its process";
    return why == nullptr || why->empty() ? text : text + " (" + *why + ")";
  }
  const bool send = completion.dest >= 0;
  if (error == Error::kProcessFailed || error == Error::kPathLost) {
    std::string reason = "its process has ended";
    if (error == Error::kPathLost) reason = "no path to its process is left, or it has ended";
    if (why != nullptr && !why->empty()) reason += " (" + *why + ")";
    return "rank " + std::to_string(send ? completion.dest : completion.source) +
           " has failed: " + reason + ", and " +
           (send ? "the message to it is lost" : "no message can be received from it");
  }
  if (error == Error::kTruncate) {
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

std::string failure_message(const RequestObject& request, Error error) {
  const char* reason =
      request.failure != nullptr ? PyUnicode_AsUTF8AndSize(request.failure, nullptr) : nullptr;
  return reason != nullptr ? reason : completion_message(error, request.completion);
}

PyObject* raise_completion_error(Error error, const Completion& completion,
                                 const std::string* why) {
  if (PyErr_Occurred()) return nullptr;
  return raise_error(error, completion_message(error, completion, why).c_str());
}

}  // namespace mooncake_mpi::bindings
