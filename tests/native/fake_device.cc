#include "fake_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

namespace mooncake_mpi::testing {
namespace {

constexpr std::size_t kSlotBytes = 20'000;  // fewer than a packet's, and not a multiple of anything

// Brings a slot at a time; the first who asks for it is told to come again.
class FakeSource final : public Source {
 public:
  explicit FakeSource(std::span<const std::byte> from) : from_(from) {}
  std::uint64_t bytes() const noexcept override { return from_.size(); }
  std::span<const std::byte> at(std::uint64_t offset, std::uint64_t most) noexcept override {
    if (offset < start_ || offset >= start_ + count_) {
      start_ = offset;
      count_ = std::min<std::uint64_t>(kSlotBytes, from_.size() - offset);
      std::memcpy(slot_.data(), from_.data() + offset, count_);
      return {};
    }
    const std::uint64_t within = offset - start_;
    return std::span<const std::byte>(slot_).subspan(within, std::min(most, count_ - within));
  }

 private:
  std::span<const std::byte> from_;
  std::array<std::byte, kSlotBytes> slot_;
  std::uint64_t start_ = 0;
  std::uint64_t count_ = 0;
};

// Two slots; what is in one goes on its way when it is asked whether it has landed, or for room.
class FakeSink final : public Sink {
 public:
  explicit FakeSink(std::span<std::byte> into) : into_(into) {}

  std::span<std::byte> room(std::uint64_t offset, std::uint64_t most) noexcept override {
    if (filled_.size() == kSlots) {
      copy_one();
      return {};
    }
    if (offset != room_offset_) {  // of another place than before
      room_offset_ = offset;
      room_bytes_ = std::min<std::uint64_t>(kSlotBytes, into_.size() - offset);
      used_ = 0;
    }
    return std::span(slots_[next_]).subspan(used_, std::min<std::uint64_t>(most, room_bytes_));
  }
  void put(std::uint64_t offset, std::uint64_t bytes) noexcept override {
    if (offset != room_offset_ || bytes > room_bytes_) std::abort();  // not where there was room
    used_ += bytes;
    room_offset_ += bytes;
    room_bytes_ -= bytes;
    if (room_bytes_ != 0 && room_offset_ != into_.size()) return;
    filled_.push_back({next_, room_offset_ - used_, used_});
    next_ = (next_ + 1) % kSlots;
    room_offset_ = UINT64_MAX;
  }
  Landing landed() noexcept override {
    if (room_offset_ != UINT64_MAX && used_ != 0) {  // a message that ends within a slot
      filled_.push_back({next_, room_offset_ - used_, used_});
      room_offset_ = UINT64_MAX;
      return Landing::kUnderWay;
    }
    if (filled_.empty()) return Landing::kDone;
    copy_one();
    return Landing::kUnderWay;
  }

 private:
  static constexpr std::size_t kSlots = 2;
  struct Filled {
    std::size_t slot;
    std::uint64_t offset;
    std::uint64_t bytes;
  };
  void copy_one() noexcept {
    const Filled& filled = filled_.front();
    std::memcpy(into_.data() + filled.offset, slots_[filled.slot].data(), filled.bytes);
    filled_.pop_front();
  }

  std::span<std::byte> into_;
  std::array<std::array<std::byte, kSlotBytes>, kSlots> slots_;
  std::size_t next_ = 0;
  std::uint64_t room_offset_ = UINT64_MAX;
  std::uint64_t room_bytes_ = 0;
  std::uint64_t used_ = 0;
  std::deque<Filled> filled_;
};

}  // namespace

FakeDevice::Block FakeDevice::allocate(std::size_t bytes) {
  const std::size_t mapped = (std::max<std::size_t>(bytes, 1) + 4095) / 4096 * 4096;
  void* device = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void* host = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (device == MAP_FAILED || host == MAP_FAILED) std::abort();
  const Block block{static_cast<std::byte*>(device), {static_cast<std::byte*>(host), bytes}};
  blocks_[block.address] = block.bytes;
  return block;
}

void FakeDevice::free(const Block& block) {
  const std::size_t mapped = (std::max<std::size_t>(block.bytes.size(), 1) + 4095) / 4096 * 4096;
  blocks_.erase(block.address);
  munmap(block.address, mapped);
  munmap(block.bytes.data(), mapped);
}

std::span<std::byte> FakeDevice::find(const Buffer& buffer) const {
  auto after = blocks_.upper_bound(buffer.address);
  if (after == blocks_.begin()) std::abort();
  const auto& [address, bytes] = *std::prev(after);
  const auto offset = static_cast<std::size_t>(buffer.address - address);
  return bytes.subspan(offset, buffer.bytes);
}

Result<std::unique_ptr<Source>> FakeDevice::source(const Buffer& buffer) {
  return std::unique_ptr<Source>(std::make_unique<FakeSource>(find(buffer)));
}

Result<std::unique_ptr<Sink>> FakeDevice::sink(const Buffer& buffer) {
  return std::unique_ptr<Sink>(std::make_unique<FakeSink>(find(buffer)));
}

FakeDevice& fake_device() {
  static auto* device = new FakeDevice;
  return *device;
}

}  // namespace mooncake_mpi::testing
