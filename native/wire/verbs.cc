#include "wire/verbs.h"

#include <algorithm>
#include <cstring>

namespace mooncake_mpi::wire {
namespace {

constexpr std::uint32_t kNumberBits = 24;  // of queue pair numbers and packet sequence numbers
constexpr std::uint32_t kMaxCredits = 1u << 16;

Digest proof_of(const Hello& hello, const Key& key) noexcept {
  const auto bytes = std::as_bytes(std::span(&hello, 1));
  return hmac_sha256(key, {bytes.first(bytes.size() - sizeof hello.proof)});
}

bool well_formed(const RailAddress& rail) {
  if (rail.queue_pair == 0) return rail == RailAddress{};
  const bool mtu = rail.mtu_bytes >= 256 && (rail.mtu_bytes & (rail.mtu_bytes - 1)) == 0;
  const bool reserved = rail.reserved[0] == 0 && rail.reserved[1] == 0 && rail.reserved[2] == 0;
  const bool reached = rail.global == 0 ? rail.lid != 0 : rail.gid != std::array<std::byte, 16>{};
  return rail.queue_pair >> kNumberBits == 0 && mtu && rail.global <= 1 && reserved && reached;
}

bool well_formed_offer(const PathOffer& offer) {
  return offer.queue_pair >> kNumberBits == 0 && offer.psn >> kNumberBits == 0 && offer.ready <= 1;
}

}  // namespace

std::optional<Rails> decode_rails(std::span<const std::byte> section) {
  Rails rails;
  if (section.size() != sizeof rails) return std::nullopt;
  std::memcpy(rails.data(), section.data(), sizeof rails);
  bool last = false;
  for (const RailAddress& rail : rails) {
    if (!well_formed(rail) || (last && rail.queue_pair != 0)) return std::nullopt;
    last = rail.queue_pair == 0;
  }
  return rails.front().queue_pair != 0 ? std::optional(rails) : std::nullopt;
}

Key hello_key(const Identity& one, const Identity& other) noexcept {
  return pair_key(one, other, "hello");
}

void prove(Hello& hello, const Key& key) noexcept {
  hello.proof = proof_of(hello, key);
}

std::optional<Uid> hello_sender(std::span<const std::byte> datagram, const Uid& to) noexcept {
  if (datagram.size() != sizeof(Hello)) return std::nullopt;
  Hello hello;
  std::memcpy(&hello, datagram.data(), sizeof hello);
  const bool ours = hello.magic == kHelloMagic && hello.version == kVersion && hello.to == to;
  return ours ? std::optional(hello.from) : std::nullopt;
}

std::optional<Hello> decode_hello(std::span<const std::byte> datagram, const Key& key,
                                  const Uid& to) noexcept {
  if (!hello_sender(datagram, to)) return std::nullopt;
  Hello hello;
  std::memcpy(&hello, datagram.data(), sizeof hello);
  if (!same_bytes(hello.proof, proof_of(hello, key))) return std::nullopt;
  const bool sane = hello.reserved == 0 && hello.paths >= 1 && hello.paths <= kMaxRails &&
                    hello.credits >= 1 && hello.credits <= kMaxCredits &&
                    std::all_of(hello.offers.begin(), hello.offers.end(), well_formed_offer);
  return sane ? std::optional<Hello>(hello) : std::nullopt;
}

std::optional<RemoteKeys> decode_keys(std::span<const std::byte> bytes, std::uint64_t length) {
  if (bytes.size() != sizeof(RemoteKeys)) return std::nullopt;
  RemoteKeys keys;
  std::memcpy(&keys, bytes.data(), sizeof keys);
  if (keys.rails == 0 || keys.rails >> kMaxRails != 0 || keys.reserved != 0) return std::nullopt;
  if (length > UINT64_MAX - keys.address) return std::nullopt;
  return keys;
}

}  // namespace mooncake_mpi::wire
