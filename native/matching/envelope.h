// What messages are matched by, inside one context: the sender's rank and the tag.
#pragma once

#include <cstdint>
#include <limits>

namespace mooncake_mpi {

// Wildcards of posted receives and probes. MPI libraries disagree on the values of MPI_ANY_SOURCE
// and MPI_ANY_TAG, so the bindings map theirs onto these; ranks and tags of messages are never
// negative.
inline constexpr std::int32_t kAnySource = std::numeric_limits<std::int32_t>::min();
inline constexpr std::int32_t kAnyTag = std::numeric_limits<std::int32_t>::min();

struct Envelope {
  std::int32_t source;
  std::int32_t tag;

  friend constexpr bool operator==(const Envelope&, const Envelope&) = default;
};

// Whether a receive with envelope `wanted` (wildcards allowed) accepts a message from `message`.
constexpr bool accepts(const Envelope& wanted, const Envelope& message) {
  return (wanted.source == kAnySource || wanted.source == message.source) &&
         (wanted.tag == kAnyTag || wanted.tag == message.tag);
}

}  // namespace mooncake_mpi
