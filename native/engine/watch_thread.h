#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "drivers/linux/process_watch.h"

namespace mooncake_mpi {

// Sleeps until a process that it watches ends. Started with the first process to watch; takes no
// CPU time while all of them live.
class WatchThread {
 public:
  // `on_end` is called on this thread with the token of a process that ended.
  WatchThread(std::unique_ptr<linux_driver::ProcessWatch> watch,
              std::function<void(std::uint64_t)> on_end)
      : watch_(std::move(watch)), on_end_(std::move(on_end)) {}
  ~WatchThread() { stop(); }
  WatchThread(const WatchThread&) = delete;
  WatchThread& operator=(const WatchThread&) = delete;

  // False when the process is gone already.
  bool add(pid_t pid, std::uint64_t start_time, std::uint64_t token);
  // Must not be called while holding a lock that `on_end` takes.
  void stop();

 private:
  void start();
  void run();

  std::unique_ptr<linux_driver::ProcessWatch> watch_;
  std::function<void(std::uint64_t)> on_end_;
  std::mutex mutex_;  // guards thread_ and stopped_
  std::thread thread_;
  bool stopped_ = false;
  std::atomic<bool> stopping_{false};
};

}  // namespace mooncake_mpi
