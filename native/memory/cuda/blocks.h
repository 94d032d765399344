// Memory that stands for an array: pinned memory, at which a stream and the host take turns, or a
// device's own, for bytes that lie apart in the array. For good: giving it back to the driver may
// wait for streams. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "drivers/cuda/driver.h"
#include "memory/cuda/moment.h"

namespace mooncake_mpi::cuda {

class Blocks;

// Used again at its end, when the streams have come to all moments that it was given.
class Block {
 public:
  Block(Blocks& blocks, std::byte* memory, unsigned size_class) noexcept
      : blocks_(blocks), memory_(memory), class_(size_class) {}
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::byte* memory() const noexcept { return memory_; }
  void used_until(std::shared_ptr<const Moment> moment) { users_.push_back(std::move(moment)); }

 private:
  friend class Blocks;
  Blocks& blocks_;
  std::byte* memory_;
  unsigned class_;
  std::vector<std::shared_ptr<const Moment>> users_;
};

class Blocks {
 public:
  // Pinned memory, for all devices.
  explicit Blocks(cuda_driver::Driver& driver) noexcept : driver_(driver) {}
  // Of one device.
  Blocks(cuda_driver::Driver& driver, int device) noexcept : driver_(driver), owner_(device) {}
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  // One that is there, or nullptr.
  std::shared_ptr<Block> take_free(std::uint64_t bytes);
  // Calls the driver where there is none of that size.
  Result<std::shared_ptr<Block>> take(int device, std::uint64_t bytes);

 private:
  friend class Block;
  static constexpr unsigned kSmallest = 12;  // the logarithm of its size; a class for each power
  static constexpr unsigned kClasses = 48;
  // What is asked of the driver at once: to ask it while a stream waits is better avoided.
  static constexpr std::size_t kPiece = std::size_t{32} << 20;

  struct Late {
    std::byte* memory;
    unsigned size_class;
    std::vector<std::shared_ptr<const Moment>> users;
  };
  static unsigned class_of(std::uint64_t bytes) noexcept;
  void give_back(Block& block) noexcept;
  std::byte* find(unsigned size_class);
  Result<std::byte*> allocate(int device, std::size_t bytes);

  cuda_driver::Driver& driver_;
  const int owner_ = -1;  // the device whose memory it is; -1: pinned
  std::mutex mutex_;
  std::array<std::vector<std::byte*>, kClasses> free_;
  std::vector<Late> late_;
  std::byte* rest_ = nullptr;  // of the latest piece
  std::size_t rest_bytes_ = 0;
};

}  // namespace mooncake_mpi::cuda
