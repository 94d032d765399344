#include "wire/payload.h"

#include <limits>

namespace mooncake_mpi::wire {

namespace {

bool wraps(std::uint64_t start, std::uint64_t bytes) {
  return bytes > std::numeric_limits<std::uint64_t>::max() - start;
}

}  // namespace

Error check(const Header& /*header*/, const EagerSync& /*payload*/) {
  return Error::kNone;
}

Error check(const Header& /*header*/, const Rts& /*payload*/) {
  return Error::kNone;
}

Error check(const Header& /*header*/, const Cts& payload) {
  if (wraps(payload.offset, payload.length)) return Error::kRange;
  if (payload.total == 0 && payload.length == 0 && payload.offset == 0) return Error::kNone;
  if (payload.length == 0 || payload.offset + payload.length > payload.total) return Error::kRange;
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

Error check(const Header& /*header*/, const Note& payload) {
  return payload.reserved == 0 && payload.lane <= UINT8_MAX ? Error::kNone : Error::kReserved;
}

Error check(const Header& /*header*/, const Credit& /*payload*/) {
  return Error::kNone;
}

}  // namespace mooncake_mpi::wire
