#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <string>

#include "base/result.h"
#include "transport/transport.h"
#include "wire/payload.h"

namespace mooncake_mpi {

struct Operation;

// What waits for room in a peer's channel: an operation that has yet to announce itself, or a
// control packet. One queue for both keeps a peer's packets in the order they were made in.
struct OutboxEntry {
  Operation* operation = nullptr;
  wire::Header header{};
  std::array<std::byte, Channel::kMaxPrefixBytes> payload{};
  std::uint32_t payload_bytes = 0;
};

// One peer process. Made when a communicator names it; connected at the first message.
struct Peer {
  explicit Peer(const wire::Address& where) : address(where) {}

  wire::Address address;
  std::unique_ptr<Channel> channel;
  std::string lane;
  std::string unreachable;  // why no lane could connect; not tried again
  std::deque<OutboxEntry> outbox;
  bool in_outbox_list = false;
  std::uint64_t credit_used = 0;    // eager bytes sent so far, each message with its overhead
  bool is_self = false;             // this process
  std::uint64_t called_ns = 0;      // it connected first, when there was nothing to answer it with
  std::uint64_t call_again_ns = 0;  // not before
  Error failure = Error::kNone;     // set once the peer is known to be gone
};

}  // namespace mooncake_mpi
