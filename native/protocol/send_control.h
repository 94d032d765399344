#pragma once

#include "protocol/protocol.h"

namespace mooncake_mpi {

// Context and source mean nothing on a control packet: it names operations, not messages.
template <class Payload>
void Protocol::send_control(Peer& peer, const Payload& payload, std::uint8_t flags) {
  std::byte bytes[sizeof(Payload)];
  wire::encode(payload, bytes);
  send_or_queue(peer, wire::control_header(wire::kKindOf<Payload>, 0, 0, sizeof(Payload), flags),
                Bytes(bytes, sizeof bytes));
}

}  // namespace mooncake_mpi
