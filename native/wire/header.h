// The header of every packet between two processes, little-endian, and its validation. Any thread;
// nothing here has a state.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mooncake_mpi::wire {

static_assert(std::endian::native == std::endian::little,
              "structs are copied to the wire as they are");

enum class Kind : std::uint8_t {
  kEager = 1,      // a whole message: `length` bytes follow
  kEagerSync = 2,  // EagerSync, then a whole message; the receiver answers kAck when it matched
  kRts = 3,        // Rts: a message of `length` bytes is ready to be fetched; Offers
  kCts = 4,        // Cts: the receiver asks for bytes of a message; Offers
  kData = 5,       // Data, then bytes of a message: payload_bytes - sizeof(Data) of them
  kFin = 6,        // Fin: the other side is done with the operation, and so the operation is over
  kAck = 7,        // Ack: a synchronous eager message was matched
  kNote = 8,       // Note: from a mover to the peer's mover of the same lane, in its own layout
  kCredit = 9,     // Credit: eager bytes that the receiver's unexpected queue no longer holds
};

inline constexpr std::uint32_t kMaxNoteBytes = 96;

// Header::flags, on kRts. A message that was announced before has its bytes elsewhere now.
inline constexpr std::uint8_t kMoved = 1;
// It would have gone at once, had the receiver not advised otherwise.
inline constexpr std::uint8_t kOnAdvice = 2;

struct Header {
  Kind kind;
  std::uint8_t flags;
  std::uint16_t reserved;       // zero
  std::uint32_t context;        // the receiver's number of the context: slot and generation
  std::int32_t source;          // the sender's rank in the context's communicator
  std::int32_t tag;             // zero where the packet is not a message or RTS
  std::uint32_t payload_bytes;  // that follow in this packet
  std::uint32_t
      length_low;  // whole message length in bytes; zero as for tag. Two words, because the
  std::uint32_t length_high;  // header is aligned to four bytes only

  std::uint64_t length() const {
    return (static_cast<std::uint64_t>(length_high) << 32) | length_low;
  }
  void set_length(std::uint64_t bytes) {
    length_low = static_cast<std::uint32_t>(bytes);
    length_high = static_cast<std::uint32_t>(bytes >> 32);
  }
};
static_assert(sizeof(Header) == 28 && alignof(Header) == 4);
static_assert(std::is_trivially_copyable_v<Header>);

// The header of a message or its RTS.
inline Header message_header(Kind kind, std::uint32_t context, std::int32_t source,
                             std::int32_t tag, std::uint32_t payload_bytes, std::uint64_t length) {
  return {kind,
          0,
          0,
          context,
          source,
          tag,
          payload_bytes,
          static_cast<std::uint32_t>(length),
          static_cast<std::uint32_t>(length >> 32)};
}

// The header of any other packet.
inline Header control_header(Kind kind, std::uint32_t context, std::int32_t source,
                             std::uint32_t payload_bytes, std::uint8_t flags = 0) {
  return {kind, flags, 0, context, source, 0, payload_bytes, 0, 0};
}

enum class Error : std::uint8_t {
  kNone = 0,
  kShort,     // fewer bytes than the header promises
  kKind,      // not a Kind
  kFlags,     // a flag that this kind does not have, or two that exclude each other
  kReserved,  // a reserved field is not zero
  kSource,    // a negative rank
  kTag,       // a negative tag, or a tag where the kind has none
  kPayload,   // payload_bytes does not fit the kind
  kLength,    // a length that contradicts payload_bytes, or where the kind has none
  kRange,     // offset + bytes or address + bytes overflows
  kOffers,    // what follows an RTS or a CTS are no offers
};

// One line for a log or an exception.
const char* describe(Error error);

// Checks every field of a header that came from another process. `packet_bytes` are at hand from
// the header on; more than the packet needs is allowed (a transport's padding).
Error validate(const Header& header, std::size_t packet_bytes);

}  // namespace mooncake_mpi::wire
