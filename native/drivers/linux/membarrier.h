#pragma once

namespace mooncake_mpi::linux_driver {

// A memory barrier in every running process that registered (membarrier(2), global expedited). It
// lets the side that runs often (a sender that asks whether its peer sleeps) go without a fence.
class GlobalBarrier {
 public:
  // Registers this process. `available()` is false where the kernel or a filter refuses it.
  GlobalBarrier() noexcept;
  bool available() const noexcept { return available_; }
  // A full fence on this thread, and on every registered one if available.
  void issue() const noexcept;

 private:
  bool available_;
};

}  // namespace mooncake_mpi::linux_driver
