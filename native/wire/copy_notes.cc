#include "wire/copy_notes.h"

#include "memory/region.h"
#include "wire/layout.h"

namespace mooncake_mpi::wire {
namespace {

bool sane(const Place& place, std::uint64_t length) {
  return (place.region == 0 || is_region(place.region)) && length <= UINT64_MAX - place.address;
}

}  // namespace

std::optional<Place> decode_place(std::span<const std::byte> bytes, std::uint64_t length) {
  const auto place = read_layout<Place>(bytes);
  return place && sane(*place, length) ? place : std::nullopt;
}

std::optional<ShareCopy> decode_share(std::span<const std::byte> note) {
  const auto share = read_layout<ShareCopy>(note);
  if (!share || share->kind != ShareCopy::kKind || !sane(share->place, share->length)) {
    return std::nullopt;
  }
  if (share->length == 0 || share->chunk_bytes == 0) return std::nullopt;
  const std::uint64_t chunks = (share->length - 1) / share->chunk_bytes + 1;
  return chunks <= ShareCopy::kMaxChunks ? share : std::nullopt;
}

std::optional<ChunksFailed> decode_chunks_failed(std::span<const std::byte> note) {
  const auto failed = read_layout<ChunksFailed>(note);
  return failed && failed->kind == ChunksFailed::kKind && failed->count != 0 &&
                 failed->reserved == 0
             ? failed
             : std::nullopt;
}

}  // namespace mooncake_mpi::wire
