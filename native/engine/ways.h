// Which ways there are to each process, what has taken them, and why some took a longer one. Any
// thread: public calls take the engine's lock, but for on_detour(), which is called with it held.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/biased_mutex.h"
#include "engine/lanes.h"
#include "engine/peer_transfers.h"
#include "engine/peers.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {

class Ways {
 public:
  // All of these outlive it.
  Ways(BiasedMutex& mutex, Protocol& protocol, const Peers& peers, const Peers::Lanes& lanes,
       const std::vector<MissingLane>& missing) noexcept
      : mutex_(mutex), protocol_(protocol), peers_(peers), lanes_(lanes), missing_(missing) {}
  Ways(const Ways&) = delete;
  Ways& operator=(const Ways&) = delete;

  // What is wrong with parts of the way to that process, which goes on over others.
  std::vector<std::string> troubles(const Context& context, std::int32_t rank);
  // Whether messages have gone between a device here and one there by no way of the host's.
  bool devices_meet(const Context& context, std::int32_t rank);
  // From where to where its messages go, in the words of its lane; empty where there are none.
  std::string route_to(const Context& context, std::int32_t rank);
  bool cross_memory_with(const Context& context, std::int32_t rank);
  // Of the ranks of `context`, in order, or of every process that this one has talked to.
  std::vector<PeerTransfers> transfers(const Context* context);
  // Told once for each peer, in words, when a message of a MiB or more between devices of this node
  // takes a longer way than it could. Called with the engine's lock held.
  void set_on_detour(std::function<void(std::string&&)> callback);
  void on_detour(Peer& peer, std::uint64_t bytes, std::string_view reason) noexcept;

 private:
  std::string detour_of(const Peer& peer) const;
  std::string name_of(const Peer& peer) const;

  BiasedMutex& mutex_;
  Protocol& protocol_;
  const Peers& peers_;
  const Peers::Lanes& lanes_;
  const std::vector<MissingLane>& missing_;
  std::function<void(std::string&&)> tell_of_detour_;
};

}  // namespace mooncake_mpi
