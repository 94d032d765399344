#include "engine/watch_thread.h"

#include "base/start_thread.h"

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

bool WatchThread::start() {
  std::lock_guard lock(mutex_);
  if (thread_.joinable() || stopped_) return true;
  return start_thread(thread_, [this] { run(); });
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
  if (mark_ != nullptr) mark_->hold();
  std::vector<std::uint64_t> ended;
  while (!stopping_.load()) {
    ended.clear();
    const bool asked = watch_->wait(ended);
    for (const std::uint64_t token : ended)
      on_end_(token);
    if (asked && !stopping_.load()) on_ask_();
  }
  if (mark_ != nullptr) mark_->let_go();
}

}  // namespace mooncake_mpi
