// What a process tells the movers of a peer about the memory of one message: a key for each lane
// that can move its bytes, behind the fixed part of an RTS or a CTS, the best way first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace mooncake_mpi::wire {

// Numbers a lane, and its mover, on the wire; each lane's file has its own.
using LaneId = std::uint8_t;

struct Offer {
  LaneId lane = 0;
  std::span<const std::byte> key;
};

// On the wire: one byte lane, one byte length of the key, the key.
class Offers {
 public:
  static constexpr std::size_t kMaxBytes = 80;

  // False: there is no room for it.
  bool add(LaneId lane, std::span<const std::byte> key) noexcept {
    if (bytes_ + 2 + key.size() > kMaxBytes) return false;
    memory_[bytes_] = static_cast<std::byte>(lane);
    memory_[bytes_ + 1] = static_cast<std::byte>(key.size());
    if (!key.empty()) std::memcpy(memory_.data() + bytes_ + 2, key.data(), key.size());
    bytes_ += 2 + key.size();
    return true;
  }
  std::span<const std::byte> bytes() const noexcept { return {memory_.data(), bytes_}; }
  bool empty() const noexcept { return bytes_ == 0; }

 private:
  std::array<std::byte, kMaxBytes> memory_;
  std::size_t bytes_ = 0;
};

// Takes the first offer off `bytes`; false when there is none, or what is there is none.
inline bool next_offer(std::span<const std::byte>& bytes, Offer& offer) noexcept {
  if (bytes.size() < 2) return false;
  const auto length = static_cast<std::size_t>(bytes[1]);
  if (bytes.size() < 2 + length) return false;
  offer = {static_cast<LaneId>(bytes[0]), bytes.subspan(2, length)};
  bytes = bytes.subspan(2 + length);
  return true;
}

// Whether these bytes are offers and nothing else.
inline bool are_offers(std::span<const std::byte> bytes) noexcept {
  Offer offer;
  while (next_offer(bytes, offer)) {
  }
  return bytes.empty();
}

}  // namespace mooncake_mpi::wire
