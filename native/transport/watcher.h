// A thread that sleeps on descriptors for a lane: it tells what has happened to them, and keeps the
// lane's time. It takes no lock but what its client takes.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>

#include "drivers/linux/epoll.h"

namespace mooncake_mpi {

class Watcher {
 public:
  static constexpr std::uint64_t kNever = UINT64_MAX;

  class Client {
   public:
    // Something has happened to the descriptors with these tags, or it is time, or it was nudged;
    // in the thread. Returns when it wants to be called again, at the latest (CLOCK_MONOTONIC).
    virtual std::uint64_t on_turn(std::span<const epoll_event> events) = 0;

   protected:
    ~Client() = default;
  };

  Watcher() = default;
  ~Watcher() { stop(); }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // False where the system has no thread or descriptor to give, and after its end. The first turn
  // is at once; again does nothing.
  bool start(Client& client);
  // For good.
  void stop();
  bool running() const noexcept { return running_.load(std::memory_order_acquire); }
  // Another turn, soon; any thread.
  void nudge() noexcept;
  // A turn with the tag kAlarm in about so long, which takes one wake-up where a nudge and a later
  // turn take two; another one takes its place. False: there is no timer. Any thread.
  bool set_alarm(std::uint64_t in_ns) noexcept;

  // What it sleeps on; any thread. Tags are the client's own, but for kNudge and kAlarm.
  bool add(int descriptor, std::uint32_t events, std::uint64_t tag) noexcept {
    return epoll_.add(descriptor, events, tag);
  }
  bool change(int descriptor, std::uint32_t events, std::uint64_t tag) noexcept {
    return epoll_.change(descriptor, events, tag);
  }
  static constexpr std::uint64_t kNudge = UINT64_MAX;
  static constexpr std::uint64_t kAlarm = UINT64_MAX - 1;

 private:
  void run();

  Client* client_ = nullptr;
  linux_driver::Epoll epoll_;
  linux_driver::FileDescriptor nudge_;  // an eventfd
  linux_driver::FileDescriptor alarm_;  // a timerfd
  std::mutex mutex_;                    // guards thread_ and ended_
  std::thread thread_;
  bool ended_ = false;
  std::atomic<bool> running_{false};
  std::atomic<bool> stopping_{false};
};

}  // namespace mooncake_mpi
