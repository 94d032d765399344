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

  // One slot, until it is given back; nullptr: none is free now.
  std::byte* take() noexcept;
  void give_back(std::byte* slot) noexcept;

 private:
  static constexpr std::size_t kSlots = 16;  // in one piece
  static constexpr std::size_t kMost = 128;

  void grow();

  cuda_driver::Driver& driver_;
  CopyQueue& queue_;
  std::mutex mutex_;
  std::vector<std::byte*> free_;
  std::size_t made_ = 0;
  bool growing_ = false;
};

}  // namespace mooncake_mpi::cuda
