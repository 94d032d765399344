#pragma once

// One send or receive under way, and what it tells when it is done. Everything but `done`, which
// waiting threads look at, is guarded by the engine's lock.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "matching/matcher.h"
#include "memory/buffer.h"
#include "memory/sink.h"
#include "memory/source.h"
#include "protocol/context.h"
#include "transport/mover.h"
#include "wire/header.h"

namespace mooncake_mpi {

struct Peer;

// What an operation tells when it is done.
struct Completion {
  Error error = Error::kNone;
  bool cancelled = false;
  std::int32_t source = 0;
  std::int32_t tag = 0;
  std::int32_t dest = -1;   // of a send
  std::uint64_t bytes = 0;  // received, or sent
  std::uint64_t message_bytes =
      0;  // of a receive: the message's length, more than `bytes` if truncated
};

// Told once when the operation is done, well or not; with the engine's lock held.
struct CompletionWatch {
  virtual void on_done() noexcept = 0;
  CompletionWatch* next_watch = nullptr;  // of the same operation

 protected:
  ~CompletionWatch() = default;
};

struct WorkTag {};

// Of a peer, at most.
inline constexpr std::size_t kMaxMovers = 4;
inline constexpr std::array<std::uint32_t, kMaxMovers> kNotExposed = {
    Exposure::kNone, Exposure::kNone, Exposure::kNone, Exposure::kNone};

// Pooled and used again; `generation` tells its lives apart, so that an id on the wire never
// reaches the wrong one.
struct Operation : Posted, ListLink<WorkTag> {
  enum class Kind : std::uint8_t { kSend, kReceive };
  enum class Stage : std::uint8_t {
    kIdle,       // in the pool
    kQueued,     // send: waits for room in the channel
    kPosted,     // receive: in the matcher
    kAnnounced,  // send: RTS or synchronous eager is out, the peer answers
    kMoving,     // a mover reads the peer's memory (receive) or writes it (send)
    kStreaming,  // fragments are under way, or asked for
    kLanding,    // receive: all bytes are in the sink, or wait for room in it
    kAwaiting,   // receive: its message was put back before it was whole, see give_up.cc
    kDone,
  };

  // What a waiting thread looks at. Interrupted: a receive from any source that is still posted,
  // while a failure of a possible sender has not been acknowledged.
  static constexpr std::uint8_t kFinished = 1;
  static constexpr std::uint8_t kInterrupted = 2;
  std::atomic<std::uint8_t> done{0};
  bool owned = false;  // a handle outside the engine refers to it
  Kind kind = Kind::kSend;
  Stage stage = Stage::kIdle;
  bool allocate_on_match = false;
  MatchChannel channel = MatchChannel::kMessages;  // receive
  bool background = false;  // the progress thread looks after it while nobody waits
  TransferPath path = TransferPath::kStream;  // of a rendezvous, as far as it is known
  std::uint32_t index = 0;                    // in the pool, fixed
  std::uint32_t generation = 0;               // of this life
  Completion completion;

  Peer* peer = nullptr;  // send: destination; receive: who matched, or whom an exact receive names
  Context* context = nullptr;        // receive
  std::uint32_t context_number = 0;  // of this process, which may have freed it since
  Buffer buffer;
  std::unique_ptr<std::byte[]> owned_buffer;  // of an allocate_on_match receive
  wire::Header header;  // send: as it goes out; receive: of the message that matched

  // Rendezvous.
  std::uint64_t remote_id = 0;
  std::uint64_t transfer_bytes = 0;
  std::uint64_t transferred_bytes = 0;  // of a stream: sent or received so far
  std::uint64_t window_end = 0;         // of a stream: as far as the receiver has asked

  // What few operations have; `unusual` says whether any of it is set, so that the others look
  // once.
  bool unusual = false;
  std::unique_ptr<Source> supply;  // send: what has the bytes, if they are not at `buffer.address`
  std::unique_ptr<Sink> sink;      // receive: what takes the bytes, if the processor cannot
  std::unique_ptr<std::byte[]> held;         // receive: a message that the sink has no room for
  std::uint64_t undeliverable_since_ns = 0;  // send: its receiver is at its end; 0: it is not
  std::uint64_t announced_ns = 0;            // send of a device that may be parked
  std::array<std::uint32_t, kMaxMovers> exposures = kNotExposed;  // by the peer's movers
  CompletionWatch* watches = nullptr;  // told when the operation is done, the latest first
  std::uint64_t heir = 0;       // put back before it was whole: the receive that matched it then
  bool may_be_written = false;  // receive: the sender may write the buffer by itself
  // Send: a mover may read the bytes on behalf of the receiver. Receive: one has left them to a
  // stream. It is told when the operation is done.
  bool shared = false;
  bool moved = false;       // receive: the sender's bytes are elsewhere, and are read again
  bool moving = false;      // send: the receiver has yet to be told so
  bool given_back = false;  // send: parked; its completion record is the program's already
  void forget_unusual() noexcept {
    unusual = false;
    supply.reset();
    sink.reset();
    held.reset();
    heir = 0;
    shared = moved = moving = given_back = false;
    undeliverable_since_ns = 0;
    watches = nullptr;
  }

  // Of one that is not done.
  void add_watch(CompletionWatch& watch) noexcept {
    watch.next_watch = watches;
    watches = &watch;
    unusual = true;
  }

  // How the operation is named on the wire.
  std::uint64_t id() const noexcept { return std::uint64_t{generation} << 32 | index; }
};

}  // namespace mooncake_mpi
