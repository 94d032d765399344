// One end of a message in a GPU's memory: what a mover needs to know of it, and the way through
// pinned memory where no mover reaches it. Engine lock held for every call but the constructors.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "memory/cuda/copy_queue.h"
#include "memory/cuda/moment.h"
#include "memory/cuda/slots.h"
#include "memory/sink.h"
#include "memory/source.h"

namespace mooncake_mpi::cuda {

// Where the bytes are, and from when on they may be touched.
struct DeviceEnd {
  cuda_driver::Allocation allocation;
  cuda_driver::DeviceAddress address = 0;
  std::uint64_t bytes = 0;
  std::shared_ptr<const Moment> ready;  // the program's stream has come to the message
  bool is_ready() const noexcept { return ready == nullptr || ready->reached(); }
};

// A few slots in a row: one is read or filled while others are on their way.
inline constexpr std::size_t kSlotsInARow = 3;

class DeviceSource final : public Source {
 public:
  DeviceSource(DeviceEnd end, CopyQueue& queue, Slots& slots) noexcept
      : end_(std::move(end)), queue_(queue), slots_(slots) {}
  ~DeviceSource() override { drop_all(); }
  const DeviceEnd& end() const noexcept { return end_; }

  std::uint64_t bytes() const noexcept override { return end_.bytes; }
  std::span<const std::byte> at(std::uint64_t offset, std::uint64_t most) noexcept override;
  bool failed() const noexcept override { return failed_; }

 private:
  struct Part {
    std::byte* slot = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::shared_ptr<Copy> copy;
  };
  Part& part(std::size_t i) noexcept { return parts_[(first_ + i) % kSlotsInARow]; }
  void drop_first() noexcept;
  void drop_all() noexcept;
  void fetch() noexcept;

  DeviceEnd end_;
  CopyQueue& queue_;
  Slots& slots_;
  std::array<Part, kSlotsInARow> parts_;  // a ring
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t next_ = 0;  // the offset of the next part
  bool failed_ = false;
};

class DeviceSink final : public Sink {
 public:
  DeviceSink(DeviceEnd end, CopyQueue& queue, Slots& slots) noexcept
      : end_(std::move(end)), queue_(queue), slots_(slots) {}
  ~DeviceSink() override;
  const DeviceEnd& end() const noexcept { return end_; }
  bool is_untouched() const noexcept;

  std::span<std::byte> room(std::uint64_t offset, std::uint64_t most) noexcept override;
  void put(std::uint64_t offset, std::uint64_t bytes) noexcept override;
  Landing landed() noexcept override;

 private:
  struct Part {
    std::byte* slot = nullptr;
    std::uint64_t offset = 0;  // of its first byte
    std::uint64_t used = 0;
    std::shared_ptr<Copy> copy;  // on its way
  };
  void send_off(Part& part) noexcept;
  // Gives back the slots of copies that are over.
  void collect() noexcept;

  DeviceEnd end_;
  CopyQueue& queue_;
  Slots& slots_;
  std::array<Part, kSlotsInARow> parts_;
  Part* open_ = nullptr;  // with room
  bool failed_ = false;
};

}  // namespace mooncake_mpi::cuda
