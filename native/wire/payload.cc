#include "wire/payload.h"

#include <limits>

#include "memory/region.h"

namespace mooncake_mpi::wire {

namespace {

bool wraps(std::uint64_t start, std::uint64_t bytes) {
  return bytes > std::numeric_limits<std::uint64_t>::max() - start;
}

}  // namespace

Error check(const Header& /*header*/, const EagerSync& /*payload*/) {
  return Error::kNone;
}

Error check(const Header& header, const Rts& payload) {
  if (payload.region != 0 && !is_region(payload.region)) return Error::kRegion;
  return wraps(payload.address, header.length()) ? Error::kRange : Error::kNone;
}

Error check(const Header& header, const Cts& payload) {
  if (payload.region != 0 && !is_region(payload.region)) return Error::kRegion;
  if (wraps(payload.address, payload.length)) return Error::kRange;
  if ((header.flags & kTogether) != 0 && payload.chunk_bytes == 0) return Error::kChunk;
  return Error::kNone;
}

Error check(const Header& header, const Data& payload) {
  if (header.payload_bytes < sizeof(Data)) return Error::kPayload;
  return wraps(payload.offset, header.payload_bytes - sizeof(Data)) ? Error::kRange : Error::kNone;
}

Error check(const Header& /*header*/, const Fin& payload) {
  return payload.reserved == 0 ? Error::kNone : Error::kReserved;
}

Error check(const Header& /*header*/, const Ack& /*payload*/) {
  return Error::kNone;
}

Error check(const Header& /*header*/, const ChunkFailed& payload) {
  return payload.reserved == 0 ? Error::kNone : Error::kReserved;
}

Error check(const Header& /*header*/, const Credit& /*payload*/) {
  return Error::kNone;
}

}  // namespace mooncake_mpi::wire
