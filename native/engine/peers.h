#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/lanes.h"
#include "protocol/peer.h"

namespace mooncake_mpi {

// The processes that this one knows, and how they are reached: by their first message, either way,
// over the first lane that can. Engine lock held for every call.
class Peers {
 public:
  using Lanes = std::vector<std::unique_ptr<Transport>>;

  // All of these outlive it.
  Peers(const wire::Address& self, const Lanes& lanes, const std::vector<MissingLane>& missing)
      : self_(self), lanes_(lanes), missing_(missing) {}
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // The process of that address; `added` is set where it was not known.
  Peer& know(const wire::Address& address, bool& added);
  // Tells the lanes that may come to carry its messages.
  void expect(const Peer& peer);
  // Gives it a channel, or says why no lane can. One that has ended gets a channel to nowhere.
  Result<bool> connect(Peer& peer);
  // A process that has connected to this one, connected in turn; nullptr: not known, or not yet.
  Peer* answer(const ProcessId& process);
  // That of a process that is known.
  std::optional<wire::Secret> secret_of(const ProcessId& process) const;
  // Whether answer() will never give it.
  bool refuses(const ProcessId& process) const;
  // Those that called and cannot be reached, since the last call; they have yet to be failed.
  std::vector<Peer*> take_unanswerable() noexcept { return std::exchange(unanswerable_, {}); }
  bool has_unanswerable() const noexcept { return !unanswerable_.empty(); }

  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [key, bucket] : peers_) {
      for (const auto& peer : bucket)
        visit(*peer);
    }
  }
  bool is_near(const Peer& peer) const noexcept { return peer.address.host == self_.host; }

 private:
  Peer* find(const ProcessId& process) const;
  Result<bool> connect_over_lanes(Peer& peer);

  const wire::Address& self_;
  const Lanes& lanes_;
  const std::vector<MissingLane>& missing_;
  std::unordered_map<std::uint64_t, std::vector<std::unique_ptr<Peer>>> peers_;
  std::vector<Peer*> unanswerable_;
};

}  // namespace mooncake_mpi
