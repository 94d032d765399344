#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "transport/verbs/pages.h"
#include "transport/verbs/rail.h"
#include "transport/verbs/registrations.h"
#include "wire/verbs.h"

namespace mooncake_mpi::verbs {

// Memory that stays registered with all rails, for messages that are copied faster than their own
// memory is registered. Made when it is first needed.
class BounceBuffers {
 public:
  static constexpr std::uint32_t kBytes = 64 * 1024;

  // At most `most_bytes` of memory.
  BounceBuffers(const std::vector<std::unique_ptr<Rail>>& rails, std::uint64_t most_bytes)
      : rails_(rails), most_slabs_(most_bytes / kSlabBytes) {}
  BounceBuffers(const BounceBuffers&) = delete;
  BounceBuffers& operator=(const BounceBuffers&) = delete;

  // One buffer of kBytes, given back by its end. False: there is none.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), number_(other.number_) {}
    Buffer& operator=(Buffer&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(number_, other.number_);
      return *this;
    }
    ~Buffer() {
      if (owner_ != nullptr) owner_->free_.push_back(number_);
    }
    explicit operator bool() const noexcept { return owner_ != nullptr; }
    std::byte* data() const noexcept;
    const Registrations::Region& region(std::size_t rail) const noexcept;

   private:
    friend class BounceBuffers;
    Buffer(BounceBuffers* owner, std::uint32_t number) : owner_(owner), number_(number) {}
    BounceBuffers* owner_ = nullptr;
    std::uint32_t number_ = 0;
  };
  Buffer take();

 private:
  static constexpr std::uint32_t kPerSlab = 16;
  static constexpr std::size_t kSlabBytes = std::size_t{kPerSlab} * kBytes;
  struct Slab {
    Pages pages;
    std::array<Registrations::Region, wire::kMaxRails> regions;
  };

  bool add_slab();

  const std::vector<std::unique_ptr<Rail>>& rails_;
  std::uint64_t most_slabs_;
  std::vector<Slab> slabs_;
  std::vector<std::uint32_t> free_;
};

inline std::byte* BounceBuffers::Buffer::data() const noexcept {
  return owner_->slabs_[number_ / kPerSlab].pages.data() + std::size_t{number_ % kPerSlab} * kBytes;
}

inline const Registrations::Region& BounceBuffers::Buffer::region(std::size_t rail) const noexcept {
  return owner_->slabs_[number_ / kPerSlab].regions[rail];
}

}  // namespace mooncake_mpi::verbs
