#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "drivers/linux/life_mark.h"
#include "drivers/linux/process_watch.h"

namespace mooncake_mpi {

// Sleeps until a process that it watches ends. Started with the first process to watch; takes no
// CPU time while all of them live. Since it lives as long as the process does, it is the one that
// holds the process's mark.
class WatchThread {
 public:
  // Called on this thread: `on_end` with the token of a process that ended, `on_ask` after ask().
  WatchThread(std::unique_ptr<linux_driver::ProcessWatch> watch,
              std::function<void(std::uint64_t)> on_end, std::function<void()> on_ask)
      : watch_(std::move(watch)), on_end_(std::move(on_end)), on_ask_(std::move(on_ask)) {}
  ~WatchThread() { stop(); }
  WatchThread(const WatchThread&) = delete;
  WatchThread& operator=(const WatchThread&) = delete;

  // False when the process is gone already.
  bool add(pid_t pid, std::uint64_t start_time, std::uint64_t token);
  // Async-signal-safe.
  void ask() noexcept { watch_->ask(); }
  int ask_descriptor() const noexcept { return watch_->ask_descriptor(); }
  std::uint64_t ask_inode() const noexcept { return watch_->ask_inode(); }
  bool running() {
    std::lock_guard lock(mutex_);
    return thread_.joinable();
  }
  // Must not be called while holding a lock that `on_end` takes.
  void stop();

  // False where the system gives no thread; again does nothing.
  bool start();
  // The thread holds it while it runs. Before the first start.
  void set_mark(linux_driver::LifeMark* mark) noexcept { mark_ = mark; }

 private:
  void run();

  std::unique_ptr<linux_driver::ProcessWatch> watch_;
  std::function<void(std::uint64_t)> on_end_;
  std::function<void()> on_ask_;
  linux_driver::LifeMark* mark_ = nullptr;
  std::mutex mutex_;  // guards thread_ and stopped_
  std::thread thread_;
  bool stopped_ = false;
  std::atomic<bool> stopping_{false};
};

}  // namespace mooncake_mpi
