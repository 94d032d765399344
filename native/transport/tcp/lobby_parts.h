// What the parts of the lobby share: lobby.cc, guests.cc, calls.cc.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "transport/tcp/lobby.h"

namespace mooncake_mpi::tcp {

inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kGuestNs = 2000 * kMillisecond;
inline constexpr std::uint64_t kShortageNs = 100 * kMillisecond;
inline constexpr std::uint64_t kFirstVisit = 1 << 16;  // smaller tags are doors
// In the number that each side gives a connection, and proves, beside that of the stream: it wants
// the connection encrypted.
inline constexpr std::uint64_t kEncrypts = std::uint64_t{1} << 32;

inline iovec room_of(std::byte* data, std::size_t bytes) noexcept {
  return {data, bytes};
}

// Sends what is left of `bytes`; how much went, or an errno below zero.
inline ssize_t send_some(Socket& socket, std::span<const std::byte> bytes) noexcept {
  const iovec one = room_of(const_cast<std::byte*>(bytes.data()), bytes.size());
  return socket.send(std::span(&one, 1));
}

// A few bytes on a connection that has room for them, or is none.
inline bool send_all(Socket& socket, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t sent = send_some(socket, bytes);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

inline std::string words_for(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "refused: nobody listens there, or a firewall says so";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "no route to it";
    case ETIMEDOUT:
      return "no answer: another network, or a firewall drops it";
    case EMFILE:
    case ENFILE:
      return "no descriptors left (ulimit -n)";
    default:
      return std::strerror(error);
  }
}

inline wire::Identity identity_of(const wire::Address& address) {
  wire::Identity identity;
  identity.uid = address.uid;
  std::ranges::copy(address.job_secret, identity.secret.begin());
  return identity;
}

inline wire::Identity identity_of(const wire::Address& address, const Config& config) {
  wire::Identity identity = identity_of(address);
  if (config.encrypts) identity.number = kEncrypts;
  return identity;
}

inline bool is_shortage(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

// What the handshake has to say; zero, or an errno.
inline int say(Socket& socket, wire::Handshake& handshake) {
  while (!handshake.to_send().empty()) {
    const ssize_t sent = send_some(socket, handshake.to_send());
    if (sent < 0) return static_cast<int>(-sent);
    handshake.sent(static_cast<std::size_t>(sent));
  }
  return 0;
}

}  // namespace mooncake_mpi::tcp
