// Pinned memory through which messages go between GPUs and the host, in slots of one size. Any
// thread.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "drivers/cuda/driver.h"
#include "memory/cuda/copy_queue.h"

namespace mooncake_mpi::cuda {

class Slots {
 public:
  static constexpr std::size_t kBytes = std::size_t{512} << 10;

  Slots(cuda_driver::Driver& driver, CopyQueue& queue) noexcept : driver_(driver), queue_(queue) {}
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  // One slot for messages of that device, until it is given back; nullptr: none is free now. Where
  // messages that wait for each other could hold all of them, one that has none gets `ordinary`
  // memory.
  std::byte* take(int device, bool ordinary) noexcept;
  void give_back(std::byte* slot) noexcept;

 private:
  static constexpr std::size_t kSlots = 16;  // in one piece
  static constexpr std::size_t kPieces = 8;

  void grow(int device);

  cuda_driver::Driver& driver_;
  CopyQueue& queue_;
  std::mutex mutex_;
  std::vector<std::byte*> free_;
  std::vector<std::byte*> pieces_;  // of kSlots each
  bool growing_ = false;
};

}  // namespace mooncake_mpi::cuda
