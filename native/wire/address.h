// A process's address for one context: what every process of a communicator gives to the others,
// over MPI, when the communicator is activated. A fixed 256-byte entry, little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "wire/verbs.h"

namespace mooncake_mpi::wire {

inline constexpr std::size_t kAddressBytes = 256;

// Address::flags.
inline constexpr std::uint16_t kAddressCma =
    1;  // may be read and written with process_vm_readv/writev

struct Address {
  std::array<std::byte, 16> uid{};   // random, one per process
  std::array<std::byte, 16> host{};  // hash of the node's (and its namespaces') identity
  std::int32_t pid = 0;
  std::int32_t memfd = -1;          // the shared segment's descriptor in that process; -1: none
  std::uint64_t start_time = 0;     // of the process, clock ticks: tells a reused pid
  std::uint64_t segment_bytes = 0;  // of the shared segment; zero exactly when there is none
  std::uint64_t probe_address = 0;  // where a peer reads to find out whether CMA works
  std::uint64_t probe_magic = 0;    // and what it must find there
  std::uint32_t context = 0;        // the process's number of the context: slot and generation
  std::uint16_t flags = 0;
  // What a peer must show to be let in over a network; members of its communicators know it.
  std::array<std::byte, 16> job_secret{};
  std::array<RailAddress, kMaxRails> rails{};  // of the verbs lane, in order, then empty ones

  friend bool operator==(const Address&, const Address&) = default;
};

std::array<std::byte, kAddressBytes> encode(const Address& address);

// An entry of another process, or why it is none.
struct DecodedAddress {
  std::optional<Address> address;
  const char* reason = nullptr;  // set exactly when there is no address
};

// Reads `entry`, which must be kAddressBytes long, and checks every field.
DecodedAddress decode_address(std::span<const std::byte> entry);

}  // namespace mooncake_mpi::wire
