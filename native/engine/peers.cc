// How a process gets to know others, and a way to each over the lanes that reach it. Engine lock
// held for every call.
#include "engine/peers.h"

#include <cstring>
#include <string>

#include "base/clock.h"
#include "engine/failure.h"
#include "protocol/operation.h"
#include "transport/gone_channel.h"

namespace mooncake_mpi {
namespace {

std::uint64_t key_of(const ProcessId& process) {
  std::uint64_t key;
  std::memcpy(&key, process.data(), sizeof key);
  return key;
}

}  // namespace

Peer* Peers::find(const ProcessId& process) const {
  const auto bucket = peers_.find(key_of(process));
  if (bucket == peers_.end()) return nullptr;
  for (const auto& peer : bucket->second) {
    if (peer->address.uid == process) return peer.get();
  }
  return nullptr;
}

Peer& Peers::know(const wire::Address& address, bool& added) {
  Peer* peer = find(address.uid);
  added = peer == nullptr;
  if (added) {
    peer = peers_[key_of(address.uid)].emplace_back(std::make_unique<Peer>(address)).get();
    peer->is_self = address.uid == self_.uid;
  }
  return *peer;
}

// The first lane that reaches it will do, unless it fails at that between two hosts.
void Peers::expect(const Peer& peer) {
  for (const auto& lane : lanes_) {
    if (lane->only_moves() || !lane->unreachable_reason(peer.address).empty()) continue;
    lane->expect(peer.address);
    if (is_near(peer)) return;
  }
}

// A peer that calls and cannot be called back is lost to both sides. What may only be missing now,
// such as a descriptor, is asked for again for a while.
Peer* Peers::answer(const ProcessId& process) {
  constexpr std::uint64_t kAgainNs = 10'000'000;
  constexpr std::uint64_t kPatienceNs = 2'000'000'000;
  Peer* peer = find(process);
  if (peer == nullptr || peer->channel != nullptr) return peer;
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
  const Peer* peer = find(process);
  return peer != nullptr ? std::optional(peer->address.job_secret) : std::nullopt;
}

bool Peers::refuses(const ProcessId& process) const {
  const Peer* peer = find(process);
  return peer != nullptr && peer->channel == nullptr && !peer->unreachable.empty();
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
