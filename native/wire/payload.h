// What follows the header, by kind: fixed layouts, little-endian, without padding bytes. Any
// thread; takes no lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "wire/header.h"
#include "wire/offers.h"

namespace mooncake_mpi::wire {

// Before the bytes of a synchronous eager message.
struct EagerSync {
  std::uint64_t send_id;
};

struct Rts {
  std::uint64_t send_id;
};

// Bytes [offset, offset + length) are wanted now, `total` in all: fewer than the message has when
// it is truncated. With all of them at once come offers of the receiver's memory.
struct Cts {
  std::uint64_t send_id;
  std::uint64_t receive_id;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint64_t total;
};

// Before streamed bytes.
struct Data {
  std::uint64_t receive_id;
  std::uint64_t offset;  // in the message, bytes
};

struct Fin {
  std::uint64_t id;      // the operation of the process that gets this packet
  std::uint32_t status;  // zero: success; a reason below; else the message was not taken
  std::uint32_t reserved;
};

// The receiver of the message is at its end.
inline constexpr std::uint32_t kNobodyReceives = 2;
// The communicator of the message was revoked, which its sender may not have heard yet.
inline constexpr std::uint32_t kRevokedThere = 3;

struct Ack {
  std::uint64_t send_id;
};

struct Note {
  std::uint64_t id;    // the operation of the process that gets this packet
  std::uint32_t lane;  // whose mover it is for
  std::uint32_t reserved;
};

struct Credit {
  std::uint64_t bytes;
};

static_assert(sizeof(EagerSync) == 8 && sizeof(Rts) == 8 && sizeof(Cts) == 40);
static_assert(sizeof(Data) == 16 && sizeof(Fin) == 16 && sizeof(Ack) == 8);
static_assert(sizeof(Note) == 16 && sizeof(Credit) == 8);

// The one kind that carries Payload at the front of its payload.
template <class Payload>
inline constexpr Kind kKindOf = Kind{0};
template <>
inline constexpr Kind kKindOf<EagerSync> = Kind::kEagerSync;
template <>
inline constexpr Kind kKindOf<Rts> = Kind::kRts;
template <>
inline constexpr Kind kKindOf<Cts> = Kind::kCts;
template <>
inline constexpr Kind kKindOf<Data> = Kind::kData;
template <>
inline constexpr Kind kKindOf<Fin> = Kind::kFin;
template <>
inline constexpr Kind kKindOf<Ack> = Kind::kAck;
template <>
inline constexpr Kind kKindOf<Note> = Kind::kNote;
template <>
inline constexpr Kind kKindOf<Credit> = Kind::kCredit;

// Whether offers follow it.
template <class Payload>
inline constexpr bool kHasOffers = kKindOf<Payload> == Kind::kRts || kKindOf<Payload> == Kind::kCts;

// Checks of fields that the header's validation does not see.
Error check(const Header& header, const EagerSync& payload);
Error check(const Header& header, const Rts& payload);
Error check(const Header& header, const Cts& payload);
Error check(const Header& header, const Data& payload);
Error check(const Header& header, const Fin& payload);
Error check(const Header& header, const Ack& payload);
Error check(const Header& header, const Note& payload);
Error check(const Header& header, const Credit& payload);

// Copies the fixed part out of `payload`, the bytes behind a header that validate() accepted, and
// checks it. On an error `out` holds unchecked values.
template <class Payload>
Error decode(const Header& header, std::span<const std::byte> payload, Payload& out) {
  static_assert(kKindOf<Payload> != Kind{0});
  if (header.kind != kKindOf<Payload>) return Error::kKind;
  if (payload.size() < sizeof(Payload)) return Error::kShort;
  std::memcpy(&out, payload.data(), sizeof(Payload));
  if constexpr (kHasOffers<Payload>) {
    if (!are_offers(payload.subspan(sizeof(Payload)))) return Error::kOffers;
  }
  return check(header, out);
}

// Writes the fixed part; returns the position behind it.
template <class Payload>
std::byte* encode(const Payload& payload, std::byte* to) {
  static_assert(kKindOf<Payload> != Kind{0});
  std::memcpy(to, &payload, sizeof(Payload));
  return to + sizeof(Payload);
}

}  // namespace mooncake_mpi::wire
