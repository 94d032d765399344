// An address of the internet protocols, of either version. Any thread; no state.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace mooncake_mpi::linux_driver {

struct IpAddress {
  bool v6 = false;
  std::array<std::byte, 16> bytes{};  // in the order of the network; the first four of version 4
  std::uint32_t scope = 0;            // the interface, where a link-local address means one of it

  bool is_loopback() const noexcept;
  bool is_link_local() const noexcept;
  // Whether the first `bits` bits are the same.
  bool shares_prefix(const IpAddress& other, unsigned bits) const noexcept;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

std::string to_string(const IpAddress& address);
std::optional<IpAddress> parse_ip_address(const std::string& text);

struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

std::string to_string(const Endpoint& endpoint);

}  // namespace mooncake_mpi::linux_driver
