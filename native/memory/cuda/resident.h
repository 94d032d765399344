// A block of a kernel that stays on a device while small messages follow each other closely, and
// copies what it is told to in half of the time that the copy engine takes until the host knows. It
// leaves by itself when nothing has come for tens of microseconds. Only where the program asks for
// it: a device whose every processor is busy is slower meanwhile. Calls may reach the driver; none
// by two threads at once, but allows().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "drivers/cuda/driver.h"
#include "memory/cuda/kernels/kernels.h"

namespace mooncake_mpi::cuda {

class Resident {
 public:
  static constexpr std::uint64_t kMostBytes = 64 << 10;

  Resident(cuda_driver::Driver& driver, Kernels& kernels, int device) noexcept
      : driver_(driver), kernels_(kernels), device_(device) {}
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;

  // For the process. The calls of context managers add up.
  static void allow(bool on) noexcept {
    allowed_.fetch_add(on ? 1 : -1, std::memory_order_relaxed);
  }
  static bool allowed() noexcept { return allowed_.load(std::memory_order_relaxed) > 0; }

  // Has it copy; true: word() shows the ticket when it is done. False: the copy engine has to, this
  // time: nothing was small and close enough before for it to stay, or it has its hands full.
  bool push(const Order& order, std::uint32_t& ticket) noexcept;
  // Has one that left too early come again, if it may; to be called while it has something to do.
  // False: it does not come, and nothing that it was given will be done.
  bool look(bool may_come) noexcept;
  // What it was given is somebody else's.
  void forget() noexcept { lost_ = false; }
  // As a stream's, of which nobody is told anything else.
  cuda_driver::Stream& stream() noexcept { return shown_; }

 private:
  static constexpr std::uint32_t kSlots = 64;
  // Messages that follow each other closely: the next one comes before it would leave.
  static constexpr std::uint64_t kCloseNs = 60'000;
  static constexpr std::uint64_t kIdleNs = 80'000;

  // In pinned memory.
  struct Board {
    std::array<Command, kSlots> commands;
    alignas(64) std::atomic<std::uint32_t> done;
    alignas(64) std::atomic<std::uint32_t> left_at;  // the turn that it does not take any more
    std::atomic<std::uint32_t> has_left;
  };

  bool make() noexcept;
  bool launch(std::uint32_t turn) noexcept;

  static std::atomic<int> allowed_;

  cuda_driver::Driver& driver_;
  Kernels& kernels_;
  const int device_;
  bool refused_ = false;
  bool running_ = false;
  bool lost_ = false;  // what it was given, until forget()
  Board* board_ = nullptr;
  cuda_driver::Stream* stream_ = nullptr;  // the kernel's
  cuda_driver::Stream shown_;
  std::uint32_t turn_ = 0;  // the last that was given
  std::uint64_t last_ns_ = 0;
};

}  // namespace mooncake_mpi::cuda
