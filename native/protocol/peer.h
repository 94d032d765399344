#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "protocol/eager_choice.h"
#include "protocol/outbox.h"
#include "protocol/transfers.h"
#include "transport/transport.h"

namespace mooncake_mpi {

struct OutboxTag {};

// One peer process. Made when it is first talked to, of this node when a communicator names it;
// connected at the first message.
struct Peer : ListLink<OutboxTag> {
  explicit Peer(const wire::Address& where) : address(where) {}

  wire::Address address;
  std::unique_ptr<Channel> channel;
  std::vector<std::unique_ptr<Mover>> movers;  // the best first; they may use the channel
  std::string lane;
  std::string unreachable;  // why no lane could connect; not tried again
  Outbox outbox;
  std::uint64_t credit_used = 0;     // eager bytes sent so far, each message with its overhead
  EagerChoice choice;                // of messages from it
  bool is_self = false;              // this process
  bool is_stranger = false;          // stands for whatever process was never talked to
  std::uint32_t known = UINT32_MAX;  // its number among the processes that this one knows
  std::uint64_t called_ns = 0;       // it connected first, when there was nothing to answer it with
  std::uint64_t call_again_ns = 0;   // not before
  std::uint64_t took_ns = 0;         // it last asked for a message of a device
  Error failure = Error::kNone;      // set once the peer is known to be gone
  Transfers transfers;
  std::vector<std::string> detours;  // why messages take a longer way than they could
  bool detour_told = false;          // the program was warned

  // No lane reaches it, which is not the same as having failed.
  bool is_unreachable() const noexcept { return channel == nullptr && !unreachable.empty(); }

  Mover* mover(wire::LaneId lane_id) const noexcept {
    for (const auto& one : movers) {
      if (one->lane() == lane_id) return one.get();
    }
    return nullptr;
  }
};

}  // namespace mooncake_mpi
