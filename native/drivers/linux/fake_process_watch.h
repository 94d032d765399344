#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "drivers/linux/process_watch.h"

namespace mooncake_mpi::linux_driver {

// Processes end when the test says so.
class FakeProcessWatch final : public ProcessWatch {
 public:
  Added add(pid_t, std::uint64_t, std::uint64_t token) override {
    std::lock_guard lock(mutex_);
    watched_.insert(token);
    return gone_.contains(token) ? Added::kGone : Added::kWatching;
  }

  bool wait(std::vector<std::uint64_t>& ended) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return interrupted_ || asked_ || !ended_.empty(); });
    interrupted_ = false;
    ended.swap(ended_);
    ended_.clear();
    return std::exchange(asked_, false);
  }

  void interrupt() noexcept override {
    std::lock_guard lock(mutex_);
    interrupted_ = true;
    changed_.notify_all();
  }

  void ask() noexcept override {
    std::lock_guard lock(mutex_);
    asked_ = true;
    changed_.notify_all();
  }

  // The process that was added with `token` ends. False: it was never added.
  bool end(std::uint64_t token) {
    std::lock_guard lock(mutex_);
    if (!watched_.contains(token)) return false;
    ended_.push_back(token);
    changed_.notify_all();
    return true;
  }
  // It will have ended before it is added.
  void gone(std::uint64_t token) { gone_.insert(token); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool interrupted_ = false;
  bool asked_ = false;
  std::set<std::uint64_t> watched_;
  std::set<std::uint64_t> gone_;
  std::vector<std::uint64_t> ended_;
};

}  // namespace mooncake_mpi::linux_driver
