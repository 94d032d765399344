// What the movers that copy tell each other: where a buffer is, and how both sides share the
// copying of one message. Fixed layouts, little-endian; docs/wire.md describes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace mooncake_mpi::wire {

// An offer: the buffer's place in its process's address space.
struct Place {
  std::uint64_t address = 0;
  std::uint64_t region = 0;  // of its process, that it lies in; zero: none
};
static_assert(sizeof(Place) == 16);

// To the sender: it may write chunks of this message into the receiver's buffer.
struct ShareCopy {
  static constexpr std::uint32_t kKind = 1;
  static constexpr std::uint32_t kMaxChunks = UINT16_MAX;
  std::uint32_t kind = kKind;
  std::uint32_t job = 0;  // slot of the shared job
  std::uint64_t receive_id = 0;
  Place place;               // of the receiver's buffer
  std::uint64_t length = 0;  // bytes, as many as the receive takes
  std::uint32_t chunk_bytes = 0;
  std::uint32_t generation = 0;  // of the job's slot
};
static_assert(sizeof(ShareCopy) == 48);

// To the receiver: the sender could not write these chunks, which it had claimed.
struct ChunksFailed {
  static constexpr std::uint32_t kKind = 2;
  std::uint32_t kind = kKind;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(ChunksFailed) == 16);

// Checked field by field; nothing where `bytes` is no such thing.
std::optional<Place> decode_place(std::span<const std::byte> bytes, std::uint64_t length);
std::optional<ShareCopy> decode_share(std::span<const std::byte> note);
std::optional<ChunksFailed> decode_chunks_failed(std::span<const std::byte> note);

}  // namespace mooncake_mpi::wire
