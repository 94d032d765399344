#include "bindings/hang_signal.h"

#include <signal.h>

#include "bindings/runtime.h"

namespace mooncake_mpi::bindings {
namespace {

// In a child that a fork made there is nobody to answer.
void on_signal(int, siginfo_t* info, void*) {
  Engine* engine = runtime().engine.get();
  if (engine != nullptr && engine->in_own_process()) engine->ask(info->si_pid);
}

}  // namespace

void answer_hang_signal() {
  static bool installed = false;
  if (installed || !runtime().engine->answers()) return;
  struct sigaction current {};
  if (sigaction(SIGUSR1, nullptr, &current) != 0 || (current.sa_flags & SA_SIGINFO) != 0 ||
      current.sa_handler != SIG_DFL) {
    return;
  }
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  installed = sigaction(SIGUSR1, &action, nullptr) == 0;
}

}  // namespace mooncake_mpi::bindings
