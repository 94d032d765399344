// Which headers are well-formed, kind by kind. Any thread; takes no lock.
#include "wire/header.h"

#include "wire/offers.h"
#include "wire/payload.h"

namespace mooncake_mpi::wire {

namespace {

// What the fields of a kind may be.
struct Shape {
  std::uint32_t fixed_bytes;     // of the payload, in front of message bytes
  std::uint8_t flags;            // allowed
  bool message;                  // has tag and length
  bool bytes_follow;             // message bytes may follow the fixed part
  std::uint32_t more_bytes = 0;  // that may follow instead: of offers, or of a note
};

constexpr Shape kNoKind{0, 0, false, false};

constexpr Shape shape_of(Kind kind) {
  switch (kind) {
    case Kind::kEager:
      return {0, 0, true, true};
    case Kind::kEagerSync:
      return {sizeof(EagerSync), 0, true, true};
    case Kind::kRts:
      return {sizeof(Rts), kMoved | kOnAdvice, true, false, Offers::kMaxBytes};
    case Kind::kCts:
      return {sizeof(Cts), 0, false, false, Offers::kMaxBytes};
    case Kind::kData:
      return {sizeof(Data), 0, false, true};
    case Kind::kFin:
      return {sizeof(Fin), 0, false, false};
    case Kind::kAck:
      return {sizeof(Ack), 0, false, false};
    case Kind::kNote:
      return {sizeof(Note), 0, false, false, kMaxNoteBytes};
    case Kind::kCredit:
      return {sizeof(Credit), 0, false, false};
  }
  return kNoKind;
}

Error check_lengths(const Header& header, const Shape& shape) {
  if (header.payload_bytes < shape.fixed_bytes) return Error::kPayload;
  const std::uint64_t bytes = header.payload_bytes - shape.fixed_bytes;
  if (!shape.bytes_follow) return bytes <= shape.more_bytes ? Error::kNone : Error::kPayload;
  // An eager packet is the whole message; a data packet does not repeat the length.
  if (shape.message && bytes != header.length()) return Error::kLength;
  return Error::kNone;
}

}  // namespace

Error validate(const Header& header, std::size_t packet_bytes) {
  if (packet_bytes < sizeof(Header)) return Error::kShort;
  if (header.payload_bytes > packet_bytes - sizeof(Header)) return Error::kShort;
  if (header.kind < Kind::kEager || header.kind > Kind::kCredit) return Error::kKind;

  const Shape shape = shape_of(header.kind);
  if ((header.flags & ~shape.flags) != 0) return Error::kFlags;
  if (header.reserved != 0) return Error::kReserved;
  if (header.source < 0) return Error::kSource;
  if (header.tag < 0) return Error::kTag;
  if (!shape.message) {
    if (header.tag != 0) return Error::kTag;
    if (header.length() != 0) return Error::kLength;
  }
  return check_lengths(header, shape);
}

const char* describe(Error error) {
  switch (error) {
    case Error::kNone:
      return "valid";
    case Error::kShort:
      return "shorter than its header promises";
    case Error::kKind:
      return "unknown kind";
    case Error::kFlags:
      return "flags that its kind does not have";
    case Error::kReserved:
      return "a reserved field is not zero";
    case Error::kSource:
      return "negative source";
    case Error::kTag:
      return "negative tag, or a tag where its kind has none";
    case Error::kPayload:
      return "payload size does not fit its kind";
    case Error::kLength:
      return "message length does not fit its payload";
    case Error::kRange:
      return "a range of bytes that wraps around";
    case Error::kOffers:
      return "what follows are no offers";
  }
  return "unknown error";
}

}  // namespace mooncake_mpi::wire
