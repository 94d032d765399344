#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "transport/verbs/rail.h"

namespace mooncake_mpi {
class Waker;
}

namespace mooncake_mpi::verbs {

// A thread that sleeps on the adapters' event channels. It wakes those that wait in this process,
// answers peers that wire up while the program computes, and keeps the lane's time.
class Watcher {
 public:
  Watcher() = default;
  ~Watcher() { stop(); }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  void start(Waker& waker, const std::vector<std::unique_ptr<Rail>>& rails);
  void stop();

  // The lane is to be polled every `interval_ns`, or never: zero. Any thread.
  void set_interval(std::uint64_t interval_ns);
  // Whether it has been time since this was last asked.
  bool take_due() noexcept {
    return due_.load(std::memory_order_relaxed) && due_.exchange(false, std::memory_order_acquire);
  }

  // Whether a datagram has come since this was last asked.
  bool take_datagrams() noexcept {
    return datagrams_.load(std::memory_order_relaxed) &&
           datagrams_.exchange(false, std::memory_order_acquire);
  }

  struct Event {
    Rail* rail;
    verbs_driver::PortEvent event;
  };
  bool has_events() const noexcept { return has_events_.load(std::memory_order_acquire); }
  std::vector<Event> take_events();

 private:
  void run();
  bool take(Rail& rail, bool& datagrams, bool& packets);

  Waker* waker_ = nullptr;
  std::vector<Rail*> rails_;
  std::thread thread_;
  int wake_ = -1;  // eventfd
  std::atomic<bool> stopping_{false};
  std::atomic<bool> due_{false};
  std::atomic<bool> datagrams_{false};
  std::atomic<std::uint64_t> interval_ns_{0};
  std::atomic<bool> has_events_{false};
  std::mutex mutex_;  // guards events_
  std::vector<Event> events_;
};

}  // namespace mooncake_mpi::verbs
