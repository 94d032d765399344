#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/address_book.h"
#include "engine/lanes.h"
#include "protocol/peer.h"

namespace mooncake_mpi {

// The processes that this one knows, and how those are reached that it talks to: by their first
// message, either way, over the first lane that can. Engine lock held for every call.
class Peers {
 public:
  using Lanes = std::vector<std::unique_ptr<Transport>>;

  // All of these outlive it.
  Peers(const wire::Address& self, const Lanes& lanes, const std::vector<MissingLane>& missing)
      : self_(self), lanes_(lanes), missing_(missing) {
    stranger_.is_stranger = true;
  }
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // The process of that address is known from now on: its number; `added` is set where it was not.
  std::uint32_t know(const wire::Address& address, bool& added) {
    return book_.add(address, added);
  }
  // Tells the lanes that may come to carry its messages.
  void expect(const wire::Address& address);
  // The peer that a process is which was talked to, or nullptr; and which it is from now on.
  Peer* met(std::uint32_t known) const;
  Peer& meet(std::uint32_t known);
  // What stands for every process that was never talked to: no channel, no failure.
  Peer& stranger() noexcept { return stranger_; }
  const AddressBook& book() const noexcept { return book_; }
  // Whether a lane says that it reaches it; if none does it is unreachable from now on.
  bool may_reach(Peer& peer);
  bool may_reach(const wire::Address& address) const;
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
    for (const auto& peer : peers_)
      visit(*peer);
  }
  bool is_near(const Peer& peer) const noexcept { return peer.address.host == self_.host; }

 private:
  Result<bool> connect_over_lanes(Peer& peer);

  const wire::Address& self_;
  const Lanes& lanes_;
  const std::vector<MissingLane>& missing_;
  AddressBook book_;  // with each process that was talked to its place in peers_, from 1
  std::vector<std::unique_ptr<Peer>> peers_;
  Peer stranger_{wire::Address{}};
  std::vector<Peer*> unanswerable_;
};

}  // namespace mooncake_mpi
