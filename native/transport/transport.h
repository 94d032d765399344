#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "drivers/linux/life_mark.h"
#include "transport/doorbell.h"
#include "transport/hang_board.h"
#include "transport/mover.h"
#include "transport/packet_sink.h"
#include "wire/address.h"
#include "wire/header.h"

namespace mooncake_mpi {

// The way of packets to one peer over one lane: they arrive whole and in order. Engine lock held
// for every call.
class Channel {
 public:
  virtual ~Channel() = default;

  // Sends header + prefix + payload as one packet, or returns false when there is no room now.
  // `prefix` is at most kMaxPrefixBytes; prefix + payload at most max_payload_bytes().
  virtual bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept = 0;
  virtual std::size_t max_payload_bytes() const noexcept = 0;
  // What goes best: where a payload takes several packets, that of one.
  virtual std::size_t packet_payload_bytes() const noexcept { return max_payload_bytes(); }

  // Its peer is on another host: an answer takes many times what a small packet costs.
  virtual bool is_far() const noexcept { return false; }

  // Bytes of unexpected eager messages that the peer may hold for us: `credit_limit` less what we
  // sent, plus what the peer gave back.
  virtual void return_credit(std::uint32_t bytes) noexcept = 0;
  virtual std::uint64_t returned_credit() const noexcept = 0;

  // What the receiver tells the sender about messages to come, where the lane has a word for it,
  // and what the peer told last.
  virtual void advise(std::uint32_t /*advice*/) noexcept {}
  virtual std::uint32_t advice() const noexcept { return 0; }

  // The peer is gone: when this returns the lane touches no packet of it any more.
  virtual void abandon() noexcept {}

  // For people: parts of the way that are not used, and why.
  virtual std::vector<std::string> troubles() const { return {}; }
  // For people: from where to where, if there is more to say than which lane it is.
  virtual std::string route() const { return {}; }

  // Before this process sleeps: room in the channel is being waited for.
  virtual void want_room(bool) noexcept {}

  static constexpr std::size_t kMaxPrefixBytes = 128;
};

// What a lane has for a peer: a channel, a mover, or both.
struct Way {
  std::unique_ptr<Channel> channel;
  std::unique_ptr<Mover> mover;
};

// A lane: one way of reaching processes.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const noexcept = 0;
  // Adds this lane's section to the address that is handed to every peer.
  virtual void describe(wire::Address& address) const = 0;
  // Why this lane cannot reach that process; empty when it can.
  virtual std::string unreachable_reason(const wire::Address& peer) const = 0;
  // One that has movers alone is asked besides the lane whose channel is taken.
  virtual bool only_moves() const noexcept { return false; }
  // A communicator names that process: it may call, or be called.
  virtual void expect(const wire::Address& /*peer*/) {}
  virtual Result<Way> connect(const wire::Address& address, Peer& peer) = 0;
  // There is nothing to poll for before the next expect() or connect(): a lane that is not needed
  // costs no message anything.
  virtual bool dormant() const noexcept { return false; }
  // Nothing of it is under way: it is not polled until it says otherwise. No virtual call, as every
  // turn of every wait asks.
  bool quiet() const noexcept { return quiet_; }
  // Delivers what has arrived, and goes on with what movers have begun; returns how much there was
  // to do (0: idle).
  virtual unsigned poll(PacketSink& sink) = 0;

  // A peer's process has ended. What it had sent whole is delivered; then nothing of it is kept.
  virtual void drain(Peer&, PacketSink&) {}
  virtual void forget(Peer&) {}

  // Around a fork. In the child, which shares what the lane has from the system, it is only closed:
  // no peer hears of it, and nothing else of the lane is used any more.
  virtual void before_fork() {}
  virtual void after_fork_in_parent() {}
  virtual void after_fork_in_child() noexcept {}

  // A lane with a thread of its own begins and ends it.
  virtual void start(Waker&) {}
  virtual void stop() {}
  // A thread is about to sleep until the doorbell rings.
  virtual void before_sleep() {}
  // How long an answer over this lane may take that is still worth polling for; zero: no longer
  // than over any other.
  virtual std::uint64_t patience_ns() const noexcept { return 0; }
  // Whether all that was sent has left this process, so that it may end.
  virtual bool drained() { return true; }

  // Where peers wake this process, read what it waits for and see that it lives, if the lane has
  // memory that they map; and where this process finds a peer's board, as a descriptor in that
  // process, or -1.
  virtual Doorbell* doorbell() noexcept { return nullptr; }
  virtual HangBoard* board() noexcept { return nullptr; }
  virtual linux_driver::LifeMark* life_mark() noexcept { return nullptr; }
  virtual int board_descriptor(const wire::Address& /*peer*/) const { return -1; }

 protected:
  bool quiet_ = false;
};

}  // namespace mooncake_mpi
