// How a process gets to know others, and a way to each over the lanes that reach it. Engine lock
// held for every call.
#include "engine/peers.h"

#include <algorithm>
#include <string>

#include "base/clock.h"
#include "engine/failure.h"
#include "protocol/operation.h"
#include "transport/gone_channel.h"

namespace mooncake_mpi {

Peer* Peers::met(std::uint32_t known) const {
  const std::uint32_t place = book_.note(known);
  return place != 0 ? peers_[place - 1].get() : nullptr;
}

Peer& Peers::meet(std::uint32_t known) {
  if (Peer* peer = met(known)) return *peer;
  Peer& peer = *peers_.emplace_back(std::make_unique<Peer>(book_.address(known)));
  peer.known = known;
  peer.is_self = peer.address.uid == self_.uid;
  book_.note(known) = static_cast<std::uint32_t>(peers_.size());
  return peer;
}

// The first lane that reaches it will do, unless it fails at that between two hosts.
void Peers::expect(const wire::Address& address) {
  for (const auto& lane : lanes_) {
    if (lane->only_moves() || !lane->unreachable_reason(address).empty()) continue;
    lane->expect(address);
    if (address.host == self_.host) return;
  }
}

// A peer that calls and cannot be called back is lost to both sides. What may only be missing now,
// such as a descriptor, is asked for again for a while.
Peer* Peers::answer(const ProcessId& process) {
  constexpr std::uint64_t kAgainNs = 10'000'000;
  constexpr std::uint64_t kPatienceNs = 2'000'000'000;
  const std::uint32_t known = book_.find(process);
  if (known == AddressBook::kNone) return nullptr;
  Peer* peer = &meet(known);
  if (peer->channel != nullptr) return peer;
  const std::uint64_t now = now_ns();
  if (now < peer->call_again_ns) return nullptr;
  Result<bool> connected = connect(*peer);
  if (connected) return peer;
  if (peer->called_ns == 0) peer->called_ns = now;
  if (connected.failure().error == Error::kNoMemory && now - peer->called_ns < kPatienceNs) {
    peer->call_again_ns = now + kAgainNs;
    return nullptr;
  }
  if (peer->unreachable.empty()) peer->unreachable = connected.failure().message;
  unanswerable_.push_back(peer);
  return nullptr;
}

std::optional<wire::Secret> Peers::secret_of(const ProcessId& process) const {
  return book_.secret_known_of(process);
}

bool Peers::refuses(const ProcessId& process) const {
  const std::uint32_t known = book_.find(process);
  const Peer* peer = known != AddressBook::kNone ? met(known) : nullptr;
  return peer != nullptr && peer->is_unreachable();
}

bool Peers::may_reach(const wire::Address& address) const {
  return std::ranges::any_of(lanes_, [&](const auto& lane) {
    return !lane->only_moves() && lane->unreachable_reason(address).empty();
  });
}

bool Peers::may_reach(Peer& peer) {
  if (peer.channel != nullptr || may_reach(peer.address)) return true;
  if (peer.unreachable.empty()) peer.unreachable = connect_over_lanes(peer).failure().message;
  return false;
}

Result<bool> Peers::connect(Peer& peer) {
  bool short_of_resources = false;  // which may be there the next time
  if (peer.unreachable.empty()) {
    Result<bool> connected = connect_over_lanes(peer);
    if (connected) return true;
    short_of_resources = connected.failure().error == Error::kNoMemory;
    peer.unreachable = connected.failure().message;
  }
  if (is_near(peer) && has_ended(peer.address)) {
    peer.channel = std::make_unique<GoneChannel>();
    peer.lane = kGoneLane;
    return true;
  }
  Failure failure{short_of_resources ? Error::kNoMemory : Error::kUnreachable,
                  "no lane reaches process " + std::to_string(peer.address.pid) + " (" +
                      peer.unreachable + ")"};
  if (short_of_resources) peer.unreachable.clear();
  return failure;
}

// The first lane that reaches the peer gives it its channel; those that only move bytes add to it.
Result<bool> Peers::connect_over_lanes(Peer& peer) {
  Failure failure{Error::kUnreachable, {}};
  std::unique_ptr<Channel> channel;
  std::string name;
  std::vector<std::unique_ptr<Mover>> movers;
  movers.reserve(kMaxMovers);
  for (const auto& lane : lanes_) {
    if (lane->only_moves() ? movers.size() == kMaxMovers : channel != nullptr) continue;
    std::string reason = lane->unreachable_reason(peer.address);
    if (reason.empty()) {
      auto way = lane->connect(peer.address, peer);
      if (way) {
        if (way.value().mover != nullptr) movers.push_back(std::move(way.value().mover));
        if (lane->only_moves()) continue;
        name = lane->name();
        channel = std::move(way.value().channel);
        continue;
      }
      reason = way.failure().message;
      if (way.failure().error == Error::kNoMemory) failure.error = Error::kNoMemory;
    }
    if (!failure.message.empty()) failure.message += "; ";
    failure.message.append(lane->name()).append(": ").append(reason);
    // A peer of this host expects nobody over the lanes behind its first one, see expect().
    if (failure.error == Error::kNoMemory && is_near(peer)) break;
  }
  if (channel == nullptr) {
    for (const MissingLane& missing : missing_)
      failure.message.append("; ").append(missing.name).append(": ").append(missing.reason);
    return failure;
  }
  peer.lane = std::move(name);
  peer.channel = std::move(channel);
  peer.movers = std::move(movers);
  return true;
}

}  // namespace mooncake_mpi
