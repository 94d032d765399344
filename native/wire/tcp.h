// What the tcp lane puts on the wire besides packets: the endpoints in a process's address, what is
// said behind a handshake, the frame in front of every packet, and the pieces of large messages.
// Little-endian, fixed layouts; docs/wire.md describes them. Any thread; takes no lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "wire/header.h"

namespace mooncake_mpi::wire {

// Where a process can be called: the lane's section of an address is some of these, the best first.
struct TcpEndpoint {
  std::uint8_t family = 4;  // or 6
  std::uint8_t reserved = 0;
  std::uint16_t port = 0;
  std::uint32_t reserved_too = 0;
  std::array<std::byte, 16> address{};  // in the order of the network; of IPv4 the first four bytes

  friend bool operator==(const TcpEndpoint&, const TcpEndpoint&) = default;
};
static_assert(sizeof(TcpEndpoint) == 24);

inline constexpr std::size_t kMaxTcpEndpoints = 8;
// Empty where the section is none.
std::vector<TcpEndpoint> decode_tcp_endpoints(std::span<const std::byte> section);

// A connection is for packets, or one of several for the bytes of large messages.
inline constexpr std::uint32_t kTcpPackets = 0;
inline constexpr std::uint32_t kMaxTcpStreams = 4;  // numbers 1 to 4

// After the handshake, by the process that has called: it wants this connection for that.
struct TcpClaim {
  std::uint32_t magic = kMagic;
  std::uint32_t stream = kTcpPackets;

  static constexpr std::uint32_t kMagic = 0x4d414c43;  // "CLAM"
};
static_assert(sizeof(TcpClaim) == 8);
std::optional<TcpClaim> decode_tcp_claim(std::span<const std::byte> bytes);

// The answer. Not granted: the other process has called, too, and its connection is taken; or it
// cannot encrypt, and one side wants that.
struct TcpVerdict {
  std::uint32_t magic = kMagic;
  std::uint32_t granted = 0;
  static constexpr std::uint32_t kGranted = 1;
  static constexpr std::uint32_t kCannotEncrypt = 2;

  static constexpr std::uint32_t kMagic = 0x44524556;  // "VERD"
};
static_assert(sizeof(TcpVerdict) == 8);
std::optional<TcpVerdict> decode_tcp_verdict(std::span<const std::byte> bytes);

// In front of the header of every packet.
struct TcpFrame {
  std::uint64_t credit = 0;  // eager bytes of the addressee that the sender no longer holds, ever
};
static_assert(sizeof(TcpFrame) == 8);

inline constexpr std::size_t kTcpHeadBytes = sizeof(TcpFrame) + sizeof(Header);
inline constexpr std::uint32_t kMaxTcpPayload = 64 * 1024;

struct TcpHead {
  TcpFrame frame;
  Header header;
};
// Of at least kTcpHeadBytes; nothing where what follows would be longer than any payload.
std::optional<TcpHead> decode_tcp_head(std::span<const std::byte> bytes);

// A packet of the lane's own: connections for large messages are wanted, and who is asked has
// called.
inline constexpr auto kTcpMoreStreams = static_cast<Kind>(0x41);

// Behind an RTS: the sender's process can send the bytes over connections of their own.
struct TcpKey {
  std::uint32_t streams = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(TcpKey) == 8);
std::optional<TcpKey> decode_tcp_key(std::span<const std::byte> bytes);

// The note with which the receiver asks for them.
struct TcpFetch {
  std::uint64_t ticket = 0;  // names the pieces that come
  std::uint64_t bytes = 0;   // from the message's first on
};
static_assert(sizeof(TcpFetch) == 16);
std::optional<TcpFetch> decode_tcp_fetch(std::span<const std::byte> bytes);

// Before every piece, on a connection for large messages.
struct TcpPiece {
  std::uint64_t ticket = 0;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;  // that follow; zero: no more will come, and what came is not all
  std::uint32_t reserved = 0;
};
static_assert(sizeof(TcpPiece) == 24);
inline constexpr std::uint32_t kMaxTcpPiece = 256 * 1024;
std::optional<TcpPiece> decode_tcp_piece(std::span<const std::byte> bytes);

template <class Layout>
std::span<const std::byte> raw_bytes(const Layout& layout) noexcept {
  static_assert(std::is_trivially_copyable_v<Layout>);
  return std::as_bytes(std::span(&layout, 1));
}

}  // namespace mooncake_mpi::wire
