// How the bytes of a large message get from one process's memory into another's without packets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "memory/buffer.h"
#include "memory/sink.h"
#include "memory/source.h"
#include "transport/packet_sink.h"
#include "transport/transfer_path.h"
#include "wire/offers.h"

namespace mooncake_mpi {

// What one process lets the other's mover do with a buffer until it conceals it.
enum class Access : std::uint8_t { kRead, kWrite };

enum class Answer : std::uint8_t {
  kYes,
  kNo,      // another way has to do
  kNotNow,  // there is no room for it; later
};

// What a mover gives to the peer's: a key that only the two understand.
struct Exposure {
  static constexpr std::uint32_t kNone = UINT32_MAX;
  std::uint32_t handle = kNone;  // to conceal it again; none where nothing was opened
  std::uint32_t key_bytes = 0;
  std::array<std::byte, 48> key;
};

// The bytes of a message at this process's end: in host memory, or behind a source or sink.
struct Move {
  std::uint64_t id = 0;       // of the operation
  std::uint64_t peer_id = 0;  // of the peer's
  std::byte* address = nullptr;
  std::uint64_t bytes = 0;
  MemoryDevice* device = nullptr;  // whose the source or sink is, if one's
  Source* source = nullptr;
  Sink* sink = nullptr;
};

struct MoverCounters {
  std::uint64_t chunks_read = 0;
  std::uint64_t chunks_written = 0;
  std::uint64_t chunks_mapped = 0;  // of both: by loads and stores
  std::uint64_t remote_reads = 0;   // messages that an adapter read
};

// The way of one lane to one peer. What start_read() or start_write() begins ends with one call of
// PacketSink::on_moved(), from the lane's poll and never from within these. Engine lock held for
// every call.
class Mover {
 public:
  virtual ~Mover() = default;
  virtual wire::LaneId lane() const noexcept = 0;
  // What its messages are counted as.
  virtual TransferPath path() const noexcept = 0;

  // Opens a buffer to the peer's mover; what is not addressable, or this lane cannot reach, it
  // declines.
  virtual Answer expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept = 0;
  virtual void conceal(std::uint32_t /*handle*/) noexcept {}

  // False: nothing was begun, for want of memory, too.
  virtual bool start_read(const Move& /*into*/, Bytes /*key*/, PacketSink&) { return false; }
  virtual bool start_write(const Move& /*from*/, Bytes /*key*/, PacketSink&) { return false; }
  // From the peer's mover, about an operation of this process that is under way. False: it makes
  // no sense.
  virtual bool on_note(const Move& /*local*/, Bytes /*note*/, PacketSink&) { return false; }

  // A message whose bytes start_read() was to move, and that a stream was asked for instead, is
  // over.
  virtual void on_streamed(PacketSink&) noexcept {}

  // The receive's sink is that one from now on, of the same memory; false: the old one has to stay.
  virtual bool redirect(std::uint64_t /*id*/, Sink& /*sink*/) noexcept { return false; }
  // The sender takes its memory back: a write for that operation, and what notes about it have
  // begun, end here, and nobody is told.
  virtual void stop(std::uint64_t /*id*/) noexcept {}
  // The receiver takes its memory back: a read for that operation that has yet to begin with some
  // of the bytes ends soon, and may end as one that failed.
  virtual void hurry(std::uint64_t /*id*/) noexcept {}
  // The peer is gone: no message's memory is touched any more, and nobody is told.
  virtual void abandon() noexcept = 0;

  // Whether the peer loads the buffer's bytes where they are, and asks no kernel or adapter.
  virtual bool is_mapped(const Buffer& /*buffer*/) noexcept { return false; }
  // Whether it reaches all host memory of the peer.
  virtual bool reaches_everything() const noexcept { return false; }
};

}  // namespace mooncake_mpi
