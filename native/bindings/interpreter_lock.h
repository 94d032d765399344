#pragma once

#include <Python.h>
#include <unistd.h>

namespace mooncake_mpi::bindings {

// Runs `call`, in which the interpreter may take its lock. While it is finalised, other threads
// that want the lock are ended: Python calls pthread_exit, which unwinds the stack through
// destructors that need the lock and handlers that would take it for an error. Such a thread sleeps
// here instead until the process has ended, as it does in Python 3.14.
template <class Call>
auto with_interpreter(Call&& call) noexcept {
  try {
    return call();
  } catch (...) {  // Python throws nothing else
    for (;;)
      pause();
  }
}

// Other Python threads run while this one waits in the engine.
class InterpreterUnlocked {
 public:
  InterpreterUnlocked() noexcept : thread_(PyEval_SaveThread()) {}
  ~InterpreterUnlocked() {
    with_interpreter([this] { PyEval_RestoreThread(thread_); });
  }
  InterpreterUnlocked(const InterpreterUnlocked&) = delete;
  InterpreterUnlocked& operator=(const InterpreterUnlocked&) = delete;

 private:
  PyThreadState* thread_;
};

}  // namespace mooncake_mpi::bindings
