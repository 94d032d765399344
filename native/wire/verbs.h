// What the verbs lane puts on the wire besides packets: the rails in a process's address, the
// datagram that two processes wire up with, the frame in front of every packet, and the keys behind
// an RTS. Little-endian, fixed layouts; docs/wire.md describes them. Any thread; takes no lock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "wire/address.h"
#include "wire/header.h"
#include "wire/identity.h"

namespace mooncake_mpi::wire {

inline constexpr std::size_t kMaxRails = 4;

// One port of a process: where its datagram queue pair listens.
struct RailAddress {
  std::array<std::byte, 16> gid{};
  std::uint32_t queue_pair = 0;  // zero: there is no such rail
  std::uint32_t queue_key = 0;
  std::uint16_t lid = 0;
  std::uint16_t mtu_bytes = 0;
  std::uint8_t global = 0;  // 1: reached with a GRH
  std::uint8_t reserved[3] = {};

  friend bool operator==(const RailAddress&, const RailAddress&) = default;
};
static_assert(sizeof(RailAddress) == 32);

// The lane's section of an address: the ports that the process uses, in order, then empty ones.
using Rails = std::array<RailAddress, kMaxRails>;
std::optional<Rails> decode_rails(std::span<const std::byte> section);

// One path of a pair of processes, as its sender sees it: a connected queue pair on either side.
struct PathOffer {
  std::uint32_t epoch = 0;       // counts the connections of this path; higher replaces lower
  std::uint32_t queue_pair = 0;  // of the sender in that epoch; zero: its rail is down
  std::uint32_t psn = 0;         // that the sender's packets begin with
  std::uint32_t known_epoch =
      0;                    // the addressee's epoch that the sender is connected to; zero: none
  std::uint32_t ready = 0;  // 1: the sender knows that the addressee is connected to it
};
static_assert(sizeof(PathOffer) == 20);

// The only datagram. Its proof is made with a key of both processes' secrets, which only the
// members of their communicators were given.
struct Hello {
  std::uint32_t magic = 0;
  std::uint16_t version = 0;
  std::uint16_t paths = 0;
  Uid from{};
  Uid to{};
  std::uint32_t credits =
      0;  // packets that the addressee may send before the sender has consumed any
  std::uint32_t reserved = 0;
  std::uint64_t moment = 0;  // grows from each to the next of one sender
  std::array<PathOffer, kMaxRails> offers{};
  Digest proof{};  // of all before it
};
static_assert(sizeof(Hello) == 168 && std::is_trivially_copyable_v<Hello>);

inline constexpr std::uint32_t kHelloMagic = 0x4f4c4548;  // "HELO"

// The key of two processes for their Hellos.
Key hello_key(const Identity& one, const Identity& other) noexcept;
void prove(Hello& hello, const Key& key) noexcept;

// Who says to have sent a datagram that says to be a Hello for the process `to`: with that
// process's key it can be proved.
std::optional<Uid> hello_sender(std::span<const std::byte> datagram, const Uid& to) noexcept;
// A datagram that is proved, for the process `to`, and well-formed.
std::optional<Hello> decode_hello(std::span<const std::byte> datagram, const Key& key,
                                  const Uid& to) noexcept;

// In front of the header of every packet.
struct Frame {
  std::uint32_t sequence =
      0;  // of the sender's packets, from 1; zero: a credit packet, not counted
  std::uint32_t consumed =
      0;  // the addressee's packets that the sender has consumed, all up to this one
  std::uint64_t credit = 0;  // eager bytes of the addressee that the sender no longer holds, ever
};
static_assert(sizeof(Frame) == 16);

inline constexpr std::size_t kPacketHeadBytes = sizeof(Frame) + sizeof(Header);

// What every packet of the lane begins with; the header is validated by who takes the message.
// Nothing where the packet's length contradicts it.
struct PacketHead {
  Frame frame;
  Header header;
};
inline std::optional<PacketHead> decode_head(std::span<const std::byte> packet) {
  if (packet.size() < kPacketHeadBytes) return std::nullopt;
  PacketHead head;
  std::memcpy(&head.frame, packet.data(), sizeof head.frame);
  std::memcpy(&head.header, packet.data() + sizeof head.frame, sizeof head.header);
  if (head.header.payload_bytes != packet.size() - kPacketHeadBytes) return std::nullopt;
  return head;
}

// Header::flags of a packet whose payload goes on in the next one: packets of the kind
// kContinuation, the last of them without this flag.
inline constexpr std::uint8_t kContinued = 0x80;
inline constexpr auto kContinuation = static_cast<Kind>(0x40);

// The lane's offer of bytes that may be read by RDMA: where they are, perhaps in a copy, and the
// remote key on each rail of the sender.
struct RemoteKeys {
  std::uint64_t address = 0;
  std::uint32_t rails = 0;  // bit per rail
  std::array<std::uint32_t, kMaxRails> keys{};
  std::uint32_t reserved = 0;
};
static_assert(sizeof(RemoteKeys) == 32);

// For a message of `length` bytes.
std::optional<RemoteKeys> decode_keys(std::span<const std::byte> bytes, std::uint64_t length);

}  // namespace mooncake_mpi::wire
