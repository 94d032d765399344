#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "transport/verbs/rail.h"
#include "transport/watcher.h"

namespace mooncake_mpi {
class Waker;
}

namespace mooncake_mpi::verbs {

// What the lane's thread does, which sleeps on the adapters' event channels. It wakes those that
// wait in this process, answers peers that wire up while the program computes, and keeps the lane's
// time.
class EventWatcher final : private Watcher::Client {
 public:
  EventWatcher() = default;
  ~EventWatcher() { stop(); }
  EventWatcher(const EventWatcher&) = delete;
  EventWatcher& operator=(const EventWatcher&) = delete;

  void start(Waker& waker, const std::vector<std::unique_ptr<Rail>>& rails);
  void stop() { watcher_.stop(); }

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
  std::uint64_t on_turn(std::span<const epoll_event> events) override;
  bool take(Rail& rail, bool& datagrams, bool& packets);

  Waker* waker_ = nullptr;
  std::vector<Rail*> rails_;
  bool armed_ = false;           // the thread's
  std::uint64_t last_tick_ = 0;  // likewise
  std::atomic<bool> due_{false};
  std::atomic<bool> datagrams_{false};
  std::atomic<std::uint64_t> interval_ns_{0};
  std::atomic<bool> has_events_{false};
  std::mutex mutex_;  // guards events_
  std::vector<Event> events_;
  Watcher watcher_;  // last: its thread uses what is above
};

}  // namespace mooncake_mpi::verbs
