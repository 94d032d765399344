#include "bindings/hang_signal.h"

#include <Python.h>
#include <signal.h>

#include "bindings/runtime.h"
#include "drivers/linux/main_thread_stack.h"

namespace mooncake_mpi::bindings {
namespace {

struct sigaction previous {};

// In a child that a fork made there is nobody to answer. An MPI library may have a handler, too.
void on_signal(int number, siginfo_t* info, void* context) {
  if (linux_driver::MainThreadStack::instance().answer()) return;
  Engine* engine = runtime().engine.get();
  if (engine != nullptr && engine->in_own_process())
    engine->ask(info->si_pid > 0 ? info->si_pid : -1);
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
  }
}

// Whether the program asked Python to handle or to ignore the signal, whatever a library has put in
// its place since. GIL held.
bool is_handled_by_python() {
  PyObject* module = PyImport_ImportModule("signal");
  PyObject* handler =
      module != nullptr ? PyObject_CallMethod(module, "getsignal", "i", SIGUSR1) : nullptr;
  const bool is_default = handler == nullptr || handler == Py_None ||
                          (PyLong_Check(handler) && PyLong_AsLong(handler) == 0);
  Py_XDECREF(handler);
  Py_XDECREF(module);
  PyErr_Clear();
  return !is_default;
}

}  // namespace

void answer_hang_signal() {
  static bool installed = false;
  if (installed || !runtime().engine->answers()) return;
  if (sigaction(SIGUSR1, nullptr, &previous) != 0 || is_handled_by_python()) return;
  if ((previous.sa_flags & SA_SIGINFO) == 0 && previous.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  installed = sigaction(SIGUSR1, &action, nullptr) == 0;
  if (installed) linux_driver::MainThreadStack::instance().use(SIGUSR1);
}

}  // namespace mooncake_mpi::bindings
