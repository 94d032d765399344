#include "engine/watch_thread.h"

#include <pthread.h>
#include <signal.h>

namespace mooncake_mpi {

bool WatchThread::add(pid_t pid, std::uint64_t start_time, std::uint64_t token) {
  switch (watch_->add(pid, start_time, token)) {
    case linux_driver::ProcessWatch::Added::kGone:
      return false;
    case linux_driver::ProcessWatch::Added::kWatching:
      start();
      break;
    case linux_driver::ProcessWatch::Added::kOwnProcess:
      break;
  }
  return true;
}

void WatchThread::start() {
  std::lock_guard lock(mutex_);
  if (thread_.joinable() || stopped_) return;
  // Signals are for the program's own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void WatchThread::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  if (!thread_.joinable()) return;
  stopping_.store(true);
  watch_->interrupt();
  thread_.join();
  thread_ = std::thread();
}

void WatchThread::run() {
  std::vector<std::uint64_t> ended;
  while (!stopping_.load()) {
    ended.clear();
    const bool asked = watch_->wait(ended);
    for (const std::uint64_t token : ended)
      on_end_(token);
    if (asked && !stopping_.load()) on_ask_();
  }
}

}  // namespace mooncake_mpi
