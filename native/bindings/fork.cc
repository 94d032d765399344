#include "bindings/fork.h"

#include <Python.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>

#include "bindings/communicator.h"
#include "bindings/notices.h"
#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

bool forked = false;
int exit_status = 0;

// Called after the last Python code, and before mpi4py's own such function.
void leave_child() {
  if (!forked) return;
  std::fflush(nullptr);
  _exit(exit_status);
}

// In the forking thread. The engine is whole while its lock is held.
void before() {
  if (runtime().engine != nullptr && !forked) runtime().engine->before_fork();
}
void in_parent() {
  if (runtime().engine != nullptr && !forked) runtime().engine->after_fork_in_parent();
}
void in_child() {
  if (runtime().engine == nullptr || forked) return;
  forked = true;
  notices().close();
  Communicator::leave_all_behind();
  runtime().engine->after_fork_in_child();
}

}  // namespace

void guard_forks() {
  static const bool guarded =
      pthread_atfork(before, in_parent, in_child) == 0 && Py_AtExit(leave_child) == 0;
  static_cast<void>(guarded);
}

void set_exit_status(int status) noexcept {
  exit_status = status;
}

bool left_behind() noexcept {
  return forked;
}

}  // namespace mooncake_mpi::bindings
