#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace mooncake_mpi {

class Engine;

// Makes progress for large transfers while their owners compute. It is
//   active   while there are such transfers and no thread waits (a waiting thread does the work):
//            polls, and sleeps on the doorbell, where peers ring it for transfers only;
//   drowsy   for a while afterwards: looks every millisecond, so that a program that posts
//            transfer after transfer does not pay a wake-up for each;
//   parked   otherwise: no CPU time at all.
class ProgressThread {
 public:
  explicit ProgressThread(Engine& engine) noexcept : engine_(engine) {}
  ~ProgressThread() { stop(); }
  ProgressThread(const ProgressThread&) = delete;
  ProgressThread& operator=(const ProgressThread&) = delete;

  // There is work in the background. Starts the thread at the first call; a load when it is awake.
  void awake() {
    if (parked_.load(std::memory_order_seq_cst) != 0) [[unlikely]]
      unpark();
  }
  void stop();

 private:
  void unpark();
  void run();
  void work();
  bool needed() const noexcept;

  Engine& engine_;
  std::mutex mutex_;  // guards thread_
  std::thread thread_;
  std::atomic<std::uint32_t> parked_{1};
  std::atomic<bool> stopping_{false};
};

}  // namespace mooncake_mpi
