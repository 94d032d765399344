#include "drivers/linux/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace mooncake_mpi::linux_driver {

bool IpAddress::is_loopback() const noexcept {
  if (!v6) return bytes[0] == std::byte{127};
  return std::all_of(bytes.begin(), bytes.end() - 1,
                     [](std::byte b) { return b == std::byte{}; }) &&
         bytes.back() == std::byte{1};
}

bool IpAddress::is_link_local() const noexcept {
  if (!v6) return bytes[0] == std::byte{169} && bytes[1] == std::byte{254};
  return bytes[0] == std::byte{0xfe} && (bytes[1] & std::byte{0xc0}) == std::byte{0x80};
}

bool IpAddress::shares_prefix(const IpAddress& other, unsigned bits) const noexcept {
  if (v6 != other.v6 || bits > (v6 ? 128u : 32u)) return false;
  for (std::size_t i = 0; bits != 0; ++i) {
    const unsigned here = std::min(bits, 8u);
    const auto mask = static_cast<std::byte>(0xff00u >> here);
    if ((bytes[i] & mask) != (other.bytes[i] & mask)) return false;
    bits -= here;
  }
  return true;
}

std::string to_string(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(address.v6 ? AF_INET6 : AF_INET, address.bytes.data(), text, sizeof text);
  return text;
}

std::optional<IpAddress> parse_ip_address(const std::string& text) {
  IpAddress address;
  address.v6 = text.find(':') != std::string::npos;
  if (inet_pton(address.v6 ? AF_INET6 : AF_INET, text.c_str(), address.bytes.data()) != 1) {
    return std::nullopt;
  }
  return address;
}

std::string to_string(const Endpoint& endpoint) {
  const std::string address = to_string(endpoint.address);
  const std::string port = ":" + std::to_string(endpoint.port);
  return endpoint.address.v6 ? "[" + address + "]" + port : address + port;
}

}  // namespace mooncake_mpi::linux_driver
