#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/region.h"
#include "transport/copy_job.h"
#include "wire/address.h"
#include "wire/header.h"

namespace mooncake_mpi {

using Bytes = std::span<const std::byte>;
// Random, one per process: wire::Address::uid.
using ProcessId = std::array<std::byte, 16>;

// One peer process as the layers above a transport see it; a transport only passes it through.
struct Peer;

// Receives what arrives. Every call is made with the engine's lock held; spans live for the call.
class PacketSink {
 public:
  virtual ~PacketSink() = default;
  virtual void on_packet(Peer& from, const wire::Header& header, Bytes payload) = 0;
  // The peer that a connecting process is, or nullptr when it is not known (yet): asked again at
  // the next poll.
  virtual Peer* on_connect(const ProcessId& process) = 0;
  // Whether on_connect() will never know that process: it cannot be answered.
  virtual bool refuses(const ProcessId&) { return false; }
  // A read that start_read() began is over; the lane no longer touches its buffer.
  virtual void on_read(std::uint64_t id, Error error);
  // The lane has lost the peer for good.
  virtual void on_failure(Peer& peer, const std::string& reason);
};

// What a lane's own thread may ask of the engine; any thread may call.
class Waker {
 public:
  virtual ~Waker() = default;
  virtual void wake() = 0;      // threads that sleep look again
  virtual void poll_now() = 0;  // every lane is polled once
};

// How this process reaches bytes of a peer by itself: not at all, through the kernel (CMA), or by
// loads and stores.
enum class Reach : std::uint8_t { kNone, kKernel, kMapped };

// The way to one peer over one lane. Packets of a channel arrive whole and in order.
// Engine lock held for every call.
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

  // Single copy: this process reads or writes the peer's memory by itself. `past_caches`: the bytes
  // are part of a transfer that does not fit the caches. What reach() said may end between two
  // calls; then these take another way, or fail.
  virtual bool can_read_peer() const noexcept { return false; }
  virtual Reach reach(const RemoteMemory& remote, std::uint64_t bytes) noexcept;
  virtual Error read_peer(void* local, const RemoteMemory& remote, std::size_t bytes,
                          bool past_caches) noexcept;
  virtual Error write_peer(const void* local, const RemoteMemory& remote, std::size_t bytes,
                           bool past_caches) noexcept;

  // Reads that the lane does by itself while this process does something else. The sender opens a
  // message's bytes to the peer, and hands it the key with the RTS; until conceal() the peer may
  // read them. Where that cannot be, there is no key. False: there is no room for the RTS now.
  static constexpr std::uint32_t kNotExposed = UINT32_MAX;
  struct Exposure {
    std::uint32_t handle = kNotExposed;
    std::uint32_t key_bytes = 0;
    std::uint64_t address = 0;  // where the peer reads them: perhaps a copy
    std::array<std::byte, wire::kMaxKeyBytes> key{};
  };
  virtual bool expose(const std::byte*, std::uint64_t, Exposure&) noexcept { return true; }
  virtual void conceal(std::uint32_t) noexcept {}
  // The receiver: PacketSink::on_read(id) tells when it is over. False: nothing was begun.
  virtual bool start_read(std::uint64_t /*id*/, std::byte* /*local*/, std::uint64_t /*remote*/,
                          std::uint64_t /*bytes*/, Bytes /*key*/) noexcept {
    return false;
  }
  // The peer is gone: when this returns the lane touches no message's buffer any more.
  virtual void abandon() noexcept {}

  // Jobs for copies shared with the peer: those of messages that come from it (ours to hand out),
  // and the peer's for messages that go to it. kNoJob / nullptr where the lane has none.
  static constexpr std::uint32_t kNoJob = UINT32_MAX;
  virtual std::uint32_t acquire_job() noexcept { return kNoJob; }
  virtual void release_job(std::uint32_t) noexcept {}
  virtual CopyJob* own_job(std::uint32_t) noexcept { return nullptr; }
  virtual CopyJob* peer_job(std::uint32_t) noexcept { return nullptr; }

  // For people: parts of the way that are not used, and why.
  virtual std::vector<std::string> troubles() const { return {}; }

  // Wakes the peer if it sleeps; try_send does so by itself.
  virtual void ring() noexcept {}
  // Before this process sleeps: room in the channel is being waited for.
  virtual void want_room(bool) noexcept {}

  static constexpr std::size_t kMaxPrefixBytes = 64;
};

// A lane: one way of reaching processes.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const noexcept = 0;
  // Fills this lane's part of the address that is handed to every peer.
  virtual void describe(wire::Address& address) const = 0;
  // Why this lane cannot reach that process; empty when it can.
  virtual std::string unreachable_reason(const wire::Address& peer) const = 0;
  virtual Result<std::unique_ptr<Channel>> connect(const wire::Address& address, Peer& peer) = 0;
  // Delivers what has arrived; returns the number of packets (0: idle).
  virtual unsigned poll(PacketSink& sink) = 0;

  // A peer's process has ended. What it had sent whole is delivered; then nothing of it is kept.
  virtual void drain(Peer&, PacketSink&) {}
  virtual void forget(Peer&) {}

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
};

inline void PacketSink::on_read(std::uint64_t, Error) {}
inline void PacketSink::on_failure(Peer&, const std::string&) {}

inline Reach Channel::reach(const RemoteMemory&, std::uint64_t) noexcept {
  return can_read_peer() ? Reach::kKernel : Reach::kNone;
}
inline Error Channel::read_peer(void*, const RemoteMemory&, std::size_t, bool) noexcept {
  return Error::kOther;
}
inline Error Channel::write_peer(const void*, const RemoteMemory&, std::size_t, bool) noexcept {
  return Error::kOther;
}

}  // namespace mooncake_mpi
