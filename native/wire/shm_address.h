// The shm lane's section of an address: where peers of the node find a process's shared segment.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace mooncake_mpi::wire {

struct ShmAddress {
  std::int32_t descriptor = -1;  // of the segment, in that process
  std::uint32_t reserved = 0;
  std::uint64_t segment_bytes = 0;
  std::uint64_t probe_address = 0;  // where a peer reads to find out whether CMA works
  std::uint64_t probe_magic = 0;    // and what it must find there
};
static_assert(sizeof(ShmAddress) == 32);

inline std::optional<ShmAddress> decode_shm_address(std::span<const std::byte> section) {
  ShmAddress address;
  if (section.size() != sizeof address) return std::nullopt;
  std::memcpy(&address, section.data(), sizeof address);
  const bool sane = address.descriptor >= 0 && address.reserved == 0 &&
                    address.segment_bytes != 0 && address.probe_address != 0;
  return sane ? std::optional(address) : std::nullopt;
}

}  // namespace mooncake_mpi::wire
