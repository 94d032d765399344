#pragma once

#include <atomic>
#include <cstdint>

namespace mooncake_mpi {

// A piece of shared memory that peers may map, as packets name it: a number that is never used
// twice, and the file's descriptor in the process that owns it. Zero: none.
using RegionId = std::uint64_t;

constexpr RegionId make_region(std::uint32_t serial, int descriptor) noexcept {
  return std::uint64_t{serial} << 32 | static_cast<std::uint32_t>(descriptor);
}
constexpr int descriptor_of(RegionId region) noexcept {
  return static_cast<int>(static_cast<std::uint32_t>(region));
}
// Whether a word that came from another process names a region.
constexpr bool is_region(RegionId word) noexcept {
  return word >> 32 != 0 && descriptor_of(word) >= 0;
}

// At the front of a region. A descriptor may mean another file by the time a peer opens it: what
// the peer then maps has another header, or none.
struct RegionHeader {
  std::uint64_t magic = kMagic;
  RegionId region = 0;
  std::uint64_t base = 0;  // where its owner maps it
  std::uint64_t bytes = 0;
  std::atomic<std::uint32_t> retired{0};  // its owner has freed all of it: unmap it

  static constexpr std::uint64_t kMagic = 0x6e6f6967'65725f6du;
};

// Bytes in another process: where it has them, and the region that they lie in, if any.
struct RemoteMemory {
  std::uint64_t address = 0;
  RegionId region = 0;

  RemoteMemory operator+(std::uint64_t offset) const noexcept { return {address + offset, region}; }
};

}  // namespace mooncake_mpi
