#pragma once

#include <pthread.h>
#include <signal.h>

#include <exception>
#include <thread>
#include <utility>

namespace mooncake_mpi {

// Starts a thread in which all signals are blocked: they are for the program's own threads. False
// where the system has no thread to give (a limit of processes, no memory for its stack).
template <class Function>
bool start_thread(std::thread& thread, Function&& function) noexcept {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = false;
  try {
    thread = std::thread(std::forward<Function>(function));
    started = true;
  } catch (const std::exception&) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace mooncake_mpi
