// What the processes of a communicator give to each other over MPI when it is made: first a head,
// whose layout never changes, then an address with a section for each lane. Any thread; nothing
// here has a state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/identity.h"
#include "wire/offers.h"

namespace mooncake_mpi::wire {

// Of everything that goes from one process to another. Processes of two versions do not talk.
inline constexpr std::uint16_t kVersion = 4;

// A process's part in a communicator.
enum class Part : std::uint16_t { kNone = 0, kMember = 1, kCannot = 2 };

// 32 bytes, in every version.
struct Head {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  Part part = Part::kNone;
  std::uint32_t context = 0;        // the process's number of the context: slot and generation
  std::uint32_t address_bytes = 0;  // of the address that it exchanges next, if any
  std::array<std::byte, 16> uid{};  // random, one per process

  static constexpr std::uint32_t kMagic = 0x49504d4d;  // "MMPI" in memory
};
static_assert(sizeof(Head) == 32);

// Why these heads, one of each process in rank order, do not allow to go on: the same for every
// process. Empty when they do.
std::string objection_to_heads(std::span<const std::byte> heads);

struct Address {
  // What one lane says of itself, in the layout of its own file.
  struct Section {
    LaneId lane = 0;
    std::vector<std::byte> bytes;
    friend bool operator==(const Section&, const Section&) = default;
  };

  std::array<std::byte, 16> uid{};   // random, one per process
  std::array<std::byte, 16> host{};  // hash of the node's (and its namespaces') identity
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;  // of the process, clock ticks: tells a reused pid
  std::uint32_t context = 0;     // the process's number of the context: slot and generation
  // What a peer proves with that it may come in over a network; members of its communicators know
  // it.
  Secret job_secret{};
  std::vector<Section> sections;

  // Of that lane; empty where it has none.
  std::span<const std::byte> section(LaneId lane) const noexcept {
    for (const Section& one : sections) {
      if (one.lane == lane) return one.bytes;
    }
    return {};
  }
  bool has(LaneId lane) const noexcept {
    for (const Section& one : sections) {
      if (one.lane == lane) return true;
    }
    return false;
  }
  void add(LaneId lane, std::span<const std::byte> bytes) {
    sections.push_back({lane, {bytes.begin(), bytes.end()}});
  }

  friend bool operator==(const Address&, const Address&) = default;
};

std::vector<std::byte> encode(const Address& address);

// An entry of another process, or why it is none.
struct DecodedAddress {
  std::optional<Address> address;
  const char* reason = nullptr;  // set exactly when there is no address
};

// Reads `entry`, which may have zeros behind it, and checks every field but what is in sections.
DecodedAddress decode_address(std::span<const std::byte> entry);

}  // namespace mooncake_mpi::wire
