#pragma once

#include <Python.h>

#include "bindings/buffer_view.h"
#include "bindings/communicator.h"
#include "bindings/runtime.h"
#include "engine/engine.h"

namespace mooncake_mpi::bindings {

PyObject* comm_recv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* comm_irecv(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// The arguments of a receive.
struct ReceiveCall {
  Communicator* communicator = nullptr;
  BufferView view;
  int source = 0;
  int tag = 0;
  bool proc_null = false;
};

// Reads and checks them. It runs code of the program. False with the exception set.
bool prepare_receive(PyObject* self, PyObject* buf, PyObject* source, PyObject* tag,
                     ReceiveCall& call);

// Posts a receive into a device's memory, of `message` where that was taken. nullptr with the
// exception raised: the message is still the caller's.
Operation* post_receive_to_device(Context& context, const Buffer& buffer, int source, int tag,
                                  UnexpectedMessage* message = nullptr);

// Posts a receive whose arguments were checked. nullptr with the exception raised.
inline Operation* post_receive(Communicator& communicator, const Buffer& buffer, int source,
                               int tag) {
  if (buffer.device != nullptr) [[unlikely]] {
    const ContextHold hold(communicator);
    return post_receive_to_device(hold.context(), buffer, source, tag);
  }
  return runtime().engine->receive(communicator.context(), MatchChannel::kMessages, source, tag,
                                   buffer);
}

// What a blocking receive gives: None, the OwnedBuffer that the engine allocated, or the number of
// bytes received.
enum class Received : std::uint8_t { kNothing, kMemory, kLength };

// Waits for a receive and ends it: unpacks, fills the status, raises its error.
PyObject* wait_receive(Operation& operation, BufferView& view, PyObject* status,
                       Received received = Received::kNothing);

// What a caller that stops waiting does with a receive: cancelled where it has not matched.
void give_up_receive(Operation& operation, BufferView& view, MatchChannel channel);

}  // namespace mooncake_mpi::bindings
