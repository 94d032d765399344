#pragma once

#include <cstring>

#include "protocol/protocol.h"

namespace mooncake_mpi {

// Context and source mean nothing on a control packet: it names operations, not messages. `more`
// follows the fixed part.
template <class Payload>
void Protocol::send_control(Peer& peer, const Payload& payload, std::uint8_t flags, Bytes more) {
  std::byte bytes[Channel::kMaxPrefixBytes];
  static_assert(sizeof(Payload) + wire::Offers::kMaxBytes <= sizeof bytes);
  wire::encode(payload, bytes);
  if (!more.empty()) std::memcpy(bytes + sizeof(Payload), more.data(), more.size());
  const std::size_t length = sizeof(Payload) + more.size();
  send_or_queue(
      peer,
      wire::control_header(wire::kKindOf<Payload>, 0, 0, static_cast<std::uint32_t>(length), flags),
      Bytes(bytes, length));
}

}  // namespace mooncake_mpi
