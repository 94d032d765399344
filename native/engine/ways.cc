#include "engine/ways.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>

namespace mooncake_mpi {

void Ways::set_on_detour(std::function<void(std::string&&)> callback) {
  std::lock_guard lock(mutex_);
  tell_of_detour_ = std::move(callback);
}

std::vector<std::string> Ways::troubles(const Context& context, std::int32_t rank) {
  std::lock_guard lock(mutex_);
  const Peer& peer = *context.members[static_cast<std::size_t>(rank)].peer;
  if (peer.channel == nullptr) return {};
  return peer.channel->troubles();
}

bool Ways::devices_meet(const Context& context, std::int32_t rank) {
  std::lock_guard lock(mutex_);
  const Peer& peer = *context.members[static_cast<std::size_t>(rank)].peer;
  const Transfers& transfers = peer.transfers;
  const auto index = static_cast<std::size_t>(TransferPath::kKernel);
  return transfers.sent()[index].messages != 0 || transfers.received()[index].messages != 0;
}

std::string Ways::route_to(const Context& context, std::int32_t rank) {
  std::lock_guard lock(mutex_);
  const Peer& peer = *context.members[static_cast<std::size_t>(rank)].peer;
  return peer.channel != nullptr ? peer.channel->route() : std::string();
}

bool Ways::cross_memory_with(const Context& context, std::int32_t rank) {
  std::lock_guard lock(mutex_);
  const Peer& peer = *context.members[static_cast<std::size_t>(rank)].peer;
  return std::ranges::any_of(peer.movers,
                             [](const auto& mover) { return mover->reaches_everything(); });
}

std::vector<PeerTransfers> Ways::transfers(const Context* context) {
  std::lock_guard lock(mutex_);
  std::vector<PeerTransfers> all;
  auto add = [&](const Peer& peer, std::int32_t rank) {
    PeerTransfers one;
    one.rank = rank;
    one.pid = peer.address.pid;
    one.is_near = peers_.is_near(peer);
    one.lane = peer.lane;
    one.transfers = peer.transfers;
    if (peer.channel != nullptr) one.troubles = peer.channel->troubles();
    one.troubles.insert(one.troubles.end(), peer.detours.begin(), peer.detours.end());
    all.push_back(std::move(one));
  };
  if (context == nullptr) {
    peers_.for_each([&](const Peer& peer) { add(peer, -1); });
    std::ranges::sort(all, {}, &PeerTransfers::pid);
  } else {
    for (std::size_t rank = 0; rank < context->members.size(); ++rank) {
      const Context::Member& member = context->members[rank];
      add(*member.peer, static_cast<std::int32_t>(rank));
      if (member.peer->is_stranger) all.back().pid = peers_.book().pid(member.known);
    }
  }
  return all;
}

// Why no lane moves bytes between the devices of the two processes.
std::string Ways::detour_of(const Peer& peer) const {
  std::string text;
  auto add = [&](std::string_view lane, const std::string& reason) {
    if (!text.empty()) text += "; ";
    text.append("the lane ").append(lane).append(" is not used: ").append(reason);
  };
  for (const auto& lane : lanes_) {
    const std::string reason = lane->only_moves() ? lane->unreachable_reason(peer.address) : "";
    if (!reason.empty()) add(lane->name(), reason);
  }
  for (const MissingLane& lane : missing_) {
    if (lane.only_moves) add(lane.name, lane.reason);
  }
  return text;
}

// As the program knows it: by its rank in the first communicator that has it.
std::string Ways::name_of(const Peer& peer) const {
  std::string name = "process " + std::to_string(peer.address.pid);
  const Context* first = nullptr;
  std::size_t rank = 0;
  protocol_.contexts().for_each([&](const Context& context) {
    if (first != nullptr && first->number < context.number) return;
    const auto& members = context.members;
    const auto found =
        std::ranges::find_if(members, [&](const auto& member) { return member.is(peer); });
    if (found == members.end()) return;
    first = &context;
    rank = static_cast<std::size_t>(found - members.begin());
  });
  if (first == nullptr || first->label.empty()) return name;
  return "rank " + std::to_string(rank) + " of " + first->label + " (" + name + ")";
}

// A message is on its way all the same; without memory nobody is told.
void Ways::on_detour(Peer& peer, std::uint64_t bytes, std::string_view reason) noexcept {
  constexpr std::uint64_t kWorthTelling = 1 << 20;
  constexpr std::size_t kMostReasons = 8;
  if (!peers_.is_near(peer)) return;
  try {
    const std::string made = reason.empty() ? detour_of(peer) : std::string();
    if (reason.empty()) reason = made;
    if (reason.empty()) return;
    const bool known = std::ranges::find(peer.detours, reason) != peer.detours.end();
    if (!known && peer.detours.size() < kMostReasons) peer.detours.emplace_back(reason);
    if (bytes < kWorthTelling || peer.detour_told || !tell_of_detour_) return;
    peer.detour_told = true;
    tell_of_detour_("messages between GPUs of this process and of " + name_of(peer) +
                    " go through memory of the host: " + std::string(reason));
  } catch (const std::bad_alloc&) {
  }
}

}  // namespace mooncake_mpi
