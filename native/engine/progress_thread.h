#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace mooncake_mpi {

class Engine;

// Makes progress for a process whose threads are elsewhere: in a computation, or in a collective
// operation of the MPI library while a peer waits for our answer. It is
//   active   while something is unfinished and none of the program's threads polls or waits: polls,
//            and sleeps on the doorbell;
//   drowsy   for a while after the last such time: looks every millisecond, so that a program which
//            posts one operation after the other does not pay a wake-up for each;
//   parked   otherwise: no CPU time at all.
// A large transfer wakes it when it is drowsy, and makes it active when the program has neither
// polled nor waited for some fifty microseconds.
class ProgressThread {
 public:
  explicit ProgressThread(Engine& engine) noexcept : engine_(engine) {}
  ~ProgressThread() { stop(); }
  ProgressThread(const ProgressThread&) = delete;
  ProgressThread& operator=(const ProgressThread&) = delete;

  // Something is unfinished and its owner goes on. Starts the thread at the first call; a load when
  // it is awake.
  void awake() {
    if (rest_.load(std::memory_order_seq_cst) == kParked) [[unlikely]]
      unpark();
  }
  // The same for a transfer that is worth a wake-up: not in a millisecond, now.
  void hurry() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    switch (rest_.load(std::memory_order_seq_cst)) {
      case kParked:
        return unpark();
      case kDrowsy:
        return rouse();
      default:
        return;
    }
  }
  void stop();

 private:
  enum Rest : std::uint32_t { kActive, kParked, kDrowsy, kAlert };

  void unpark();
  void rouse();
  void doze();
  void look_once_more();
  void run();
  void work(std::uint32_t polls);
  bool unfinished() const noexcept;
  bool nobody_polls(std::uint32_t polls) const noexcept;

  Engine& engine_;
  std::mutex mutex_;  // guards thread_
  std::thread thread_;
  std::uint64_t try_again_ns_ = 0;
  std::atomic<std::uint32_t> rest_{kParked};  // a futex
  std::atomic<bool> stopping_{false};
};

}  // namespace mooncake_mpi
