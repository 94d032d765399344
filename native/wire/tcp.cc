#include "wire/tcp.h"

#include <algorithm>

#include "wire/layout.h"

namespace mooncake_mpi::wire {
namespace {

bool well_formed(const TcpEndpoint& endpoint) {
  const bool family = endpoint.family == 4 || endpoint.family == 6;
  if (!family || endpoint.reserved != 0 || endpoint.reserved_too != 0) return false;
  if (endpoint.port == 0) return false;
  const std::size_t length = endpoint.family == 4 ? 4 : 16;
  const auto is_zero = [](std::byte one) { return one == std::byte{}; };
  const auto end = endpoint.address.begin() + static_cast<std::ptrdiff_t>(length);
  return !std::all_of(endpoint.address.begin(), end, is_zero) &&
         std::all_of(end, endpoint.address.end(), is_zero);
}

}  // namespace

std::vector<TcpEndpoint> decode_tcp_endpoints(std::span<const std::byte> section) {
  std::vector<TcpEndpoint> endpoints;
  const std::size_t count = section.size() / sizeof(TcpEndpoint);
  if (count == 0 || count > kMaxTcpEndpoints || section.size() % sizeof(TcpEndpoint) != 0) {
    return {};
  }
  for (std::size_t i = 0; i < count; ++i) {
    TcpEndpoint endpoint;
    std::memcpy(&endpoint, section.data() + i * sizeof endpoint, sizeof endpoint);
    if (!well_formed(endpoint)) return {};
    endpoints.push_back(endpoint);
  }
  return endpoints;
}

std::optional<TcpClaim> decode_tcp_claim(std::span<const std::byte> bytes) {
  const auto claim = read_layout<TcpClaim>(bytes);
  if (!claim || claim->magic != TcpClaim::kMagic || claim->stream > kMaxTcpStreams) return {};
  return claim;
}

std::optional<TcpVerdict> decode_tcp_verdict(std::span<const std::byte> bytes) {
  const auto verdict = read_layout<TcpVerdict>(bytes);
  if (!verdict || verdict->magic != TcpVerdict::kMagic) return {};
  if (verdict->granted > TcpVerdict::kCannotEncrypt) return {};
  return verdict;
}

std::optional<TcpHead> decode_tcp_head(std::span<const std::byte> bytes) {
  if (bytes.size() < kTcpHeadBytes) return std::nullopt;
  TcpHead head;
  std::memcpy(&head.frame, bytes.data(), sizeof head.frame);
  std::memcpy(&head.header, bytes.data() + sizeof head.frame, sizeof head.header);
  if (head.header.payload_bytes > kMaxTcpPayload) return std::nullopt;
  return head;
}

std::optional<TcpKey> decode_tcp_key(std::span<const std::byte> bytes) {
  const auto key = read_layout<TcpKey>(bytes);
  if (!key || key->streams == 0 || key->streams > kMaxTcpStreams || key->reserved != 0) return {};
  return key;
}

std::optional<TcpFetch> decode_tcp_fetch(std::span<const std::byte> bytes) {
  const auto fetch = read_layout<TcpFetch>(bytes);
  if (!fetch || fetch->ticket == 0 || fetch->bytes == 0) return {};
  return fetch;
}

std::optional<TcpPiece> decode_tcp_piece(std::span<const std::byte> bytes) {
  const auto piece = read_layout<TcpPiece>(bytes);
  if (!piece || piece->ticket == 0 || piece->bytes > kMaxTcpPiece || piece->reserved != 0) {
    return {};
  }
  if (piece->offset > UINT64_MAX - piece->bytes) return {};
  if (piece->bytes == 0 && piece->offset != 0) return {};
  return piece;
}

}  // namespace mooncake_mpi::wire
