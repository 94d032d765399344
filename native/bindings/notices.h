#pragma once

// What Python has to do once an operation is done that nobody waits for: give a buffer back, unpack
// it, or call a function; and what it is to be warned of. Settled with the GIL held, and created so
// for an operation; told by whichever thread completes the operation, under the engine's lock and
// without the GIL.

#include <Python.h>

#include <atomic>

#include "bindings/buffer_view.h"
#include "protocol/operation.h"

namespace mooncake_mpi::bindings {

class Notices {
 public:
  struct Notice : CompletionWatch {
    virtual ~Notice() = default;
    virtual void settle() = 0;  // with the GIL held; no Python error is left set
    void on_done() noexcept final;
    Notice* next = nullptr;
  };

  // The operation's handle is gone: its buffer lives until the operation is done, and is unpacked
  // then. Takes the operation over.
  void adopt(Operation& operation, BufferView&& view) noexcept;
  // Calls `callable` soon after the operation is done; false if it is done already.
  bool call_when_done(Operation& operation, PyObject* callable);

  // Settles what has been told. One load where there is nothing.
  void settle() noexcept {
    if (told_.load(std::memory_order_relaxed) != nullptr) [[unlikely]]
      settle_told();
  }
  // What the interpreter's main thread calls between two instructions, once tell() asked for it.
  void settle_scheduled() noexcept;
  // Takes over an exception of a signal's handler, amid what has no caller to raise it to.
  void raise_later(PyObject* exception) noexcept;
  // Raises that exception, if there is one and it was this thread's.
  bool raise_interruption() noexcept {
    return interruption_ != nullptr && callbacks_ == 0 && raise_interruption_aside();
  }
  // A function that the MPI library calls begins and ends: nothing is raised until it has returned.
  void begin_callback() noexcept { ++callbacks_; }
  void end_callback() noexcept {
    if (--callbacks_ == 0 && interruption_ != nullptr) ask_to_settle();
  }
  // The interpreter is about to end: no thread may ask it for anything from now on.
  void close() noexcept { closed_.store(true); }

 private:
  void tell(Notice& notice) noexcept;
  void settle_told() noexcept;
  bool raise_interruption_aside() noexcept;
  void ask_to_settle() noexcept;

  std::atomic<Notice*> told_{nullptr};
  std::atomic<bool> scheduled_{false};  // a call is queued in the main thread
  std::atomic<bool> closed_{false};
  PyObject* interruption_ = nullptr;  // guarded by the GIL, as what follows
  unsigned long interrupted_thread_ = 0;
  int callbacks_ = 0;
};

Notices& notices() noexcept;

// Ends an operation that is done and has no handle: unpacks what was received and gives the buffer
// back. Keeps the Python error that may be set.
void end_unwatched(Operation& operation, BufferView& view) noexcept;

}  // namespace mooncake_mpi::bindings
