#pragma once

// Who a process is to others over a network, and the keys that two processes share. Any thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/sha256.h"

namespace mooncake_mpi::wire {

using Uid = std::array<std::byte, 16>;  // random, one per process
// Random, one per process: 256 bits that only the members of its communicators are given. All
// zero: the process has none, and nobody is let in.
using Secret = std::array<std::byte, 32>;
using Key = Digest;

struct Identity {
  Uid uid{};
  Secret secret{};
  std::uint64_t number = 0;  // of a connection, as its lane counts them
};

inline bool has_secret(const Secret& secret) noexcept {
  return secret != Secret{};
}

// A key of both processes' secrets, the same for either side, and another one for each purpose:
// HKDF-SHA256 (RFC 5869) of the two secrets in the order of the uids.
Key pair_key(const Identity& one, const Identity& other, std::string_view purpose) noexcept;

}  // namespace mooncake_mpi::wire
