#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/intrusive_list.h"
#include "base/result.h"
#include "matching/matcher.h"
#include "memory/buffer.h"
#include "memory/pieces.h"
#include "memory/region.h"
#include "protocol/context.h"
#include "transport/copy_job.h"
#include "transport/transport.h"
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

// One send or receive under way. Pooled and used again; `generation` tells its lives apart, so that
// an id on the wire never reaches the wrong one. Everything but `done` is guarded by the engine's
// lock.
struct Operation : Posted, ListLink<WorkTag> {
  enum class Kind : std::uint8_t { kSend, kReceive };
  enum class Stage : std::uint8_t {
    kIdle,       // in the pool
    kQueued,     // send: waits for room in the channel
    kPosted,     // receive: in the matcher
    kAnnounced,  // send: RTS or synchronous eager is out, the peer answers
    kCopying,    // this process copies chunks (receive) or helps to (send)
    kStreaming,  // fragments are under way
    kReading,    // receive: the lane reads the peer's memory
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
  bool background = false;       // the progress thread looks after it while nobody waits
  std::uint32_t index = 0;       // in the pool, fixed
  std::uint32_t generation = 0;  // of this life
  Completion completion;

  Peer* peer = nullptr;  // send: destination; receive: who matched, or whom an exact receive names
  Context* context = nullptr;        // receive
  std::uint32_t context_number = 0;  // of this process, which may have freed it since
  Buffer buffer;
  std::unique_ptr<Pieces> pieces;  // send: where the bytes lie, if not at `buffer.address`
  std::unique_ptr<std::byte[]> owned_buffer;  // of an allocate_on_match receive
  wire::Header header;  // send: as it goes out; receive: of the message that matched

  // Rendezvous.
  std::uint64_t remote_id = 0;
  RemoteMemory remote;      // the peer's bytes
  bool mapped = false;      // they are copied by loads and stores
  bool unreadable = false;  // receive: the system has closed that way in the middle
  std::uint64_t transfer_bytes = 0;
  std::uint64_t transferred_bytes = 0;  // stream: sent or received so far
  std::uint32_t chunk_bytes = 0;
  std::uint32_t chunk_count = 0;
  std::uint32_t next_chunk = 0;  // copy without a job
  std::uint32_t job = 0;
  std::uint32_t job_generation = 0;

  // What few operations have; `unusual` says whether any of it is set, so that the others look
  // once.
  bool unusual = false;
  std::uint64_t undeliverable_since_ns = 0;       // send: its receiver is at its end; 0: it is not
  std::uint32_t exposure = Channel::kNotExposed;  // send: its bytes are open to the peer
  CompletionWatch* watches = nullptr;  // told when the operation is done, the latest first
  std::uint64_t heir = 0;       // put back before it was whole: the receive that matched it then
  bool may_be_written = false;  // receive: the sender may write the buffer by itself
  bool moved = false;           // receive: the sender's bytes are elsewhere, and are read again
  bool moving = false;          // send: the receiver has yet to be told so
  void forget_unusual() noexcept {
    unusual = false;
    heir = 0;
    moved = moving = false;
    undeliverable_since_ns = 0;
    watches = nullptr;
  }

  // How the operation is named on the wire.
  std::uint64_t id() const noexcept { return std::uint64_t{generation} << 32 | index; }
};

}  // namespace mooncake_mpi
