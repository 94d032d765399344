#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "transport/transfer_path.h"
#include "wire/header.h"
#include "wire/identity.h"
#include "wire/offers.h"

namespace mooncake_mpi {

using Bytes = std::span<const std::byte>;
// Random, one per process: wire::Address::uid.
using ProcessId = wire::Uid;

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
  // The secret of a process that is known, connected or not: whoever says to be it proves it first.
  virtual std::optional<wire::Secret> secret_of(const ProcessId&) { return std::nullopt; }
  // Whether on_connect() will never know that process: it cannot be answered.
  virtual bool refuses(const ProcessId&) { return false; }
  // What a mover began for that operation is over; it no longer touches the operation's memory.
  virtual void on_moved(Peer& peer, std::uint64_t id, Error error) = 0;
  // Before that: what has moved the bytes of the operation, where it was not Mover::path().
  virtual void on_path(std::uint64_t /*id*/, TransferPath /*path*/) noexcept {}
  // Takes a mover's words to the peer's mover of the same lane, about the peer's operation `id`.
  virtual void send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note) = 0;
  // How much was sent to that peer so far, but for small messages.
  virtual std::uint64_t bytes_sent(const Peer&) const noexcept { return 0; }
  // A message of so many bytes takes a longer way to that peer, or from it, than there could be,
  // and why; no reason: there is no lane for it.
  virtual void on_detour(Peer& /*peer*/, std::uint64_t /*bytes*/,
                         std::string_view /*reason*/) noexcept {}
  // The lane has lost the peer for good.
  virtual void on_failure(Peer& /*peer*/, const std::string& /*reason*/) {}
};

// What a lane's own thread may ask of the engine; any thread may call.
class Waker {
 public:
  virtual ~Waker() = default;
  virtual void wake() = 0;      // threads that sleep look again
  virtual void poll_now() = 0;  // every lane is polled once
  // The secret of a process that is known, without the engine's lock.
  virtual std::optional<wire::Secret> secret_known_of(const ProcessId&) const {
    return std::nullopt;
  }
};

}  // namespace mooncake_mpi
