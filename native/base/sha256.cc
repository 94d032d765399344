#include "base/sha256.h"

#include <string.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace mooncake_mpi {
namespace {

// The first 32 bits of the fractions of the cube roots of the first 64 primes.
constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t read_big(const std::byte* from) noexcept {
  std::uint32_t word = 0;
  for (int i = 0; i < 4; ++i)
    word = word << 8 | static_cast<std::uint32_t>(from[i]);
  return word;
}

void write_big(std::byte* to, std::uint64_t value, int bytes) noexcept {
  for (int i = 0; i < bytes; ++i)
    to[i] = static_cast<std::byte>(value >> 8 * (bytes - 1 - i));
}

}  // namespace

void Sha256::compress(const std::byte* block) noexcept {
  std::uint32_t schedule[64];
  for (int i = 0; i < 16; ++i)
    schedule[i] = read_big(block + 4 * i);
  for (int i = 16; i < 64; ++i) {
    const std::uint32_t early = schedule[i - 15];
    const std::uint32_t late = schedule[i - 2];
    schedule[i] = schedule[i - 16] + schedule[i - 7] +
                  (std::rotr(early, 7) ^ std::rotr(early, 18) ^ early >> 3) +
                  (std::rotr(late, 17) ^ std::rotr(late, 19) ^ late >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (int i = 0; i < 64; ++i) {
    const std::uint32_t first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                                ((e & f) ^ (~e & g)) + kRound[i] + schedule[i];
    const std::uint32_t second =
        (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + first;
    d = c;
    c = b;
    b = a;
    a = first + second;
  }
  const std::uint32_t words[8] = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < state_.size(); ++i)
    state_[i] += words[i];
}

void Sha256::update(std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const std::size_t at = bytes_ % kBlockBytes;
    const std::size_t taken = std::min(bytes.size(), kBlockBytes - at);
    std::memcpy(block_.data() + at, bytes.data(), taken);
    bytes_ += taken;
    bytes = bytes.subspan(taken);
    if (at + taken == kBlockBytes) compress(block_.data());
  }
}

Digest Sha256::finish() noexcept {
  const std::uint64_t bits = 8 * bytes_;
  std::array<std::byte, kBlockBytes + 8> padding{std::byte{0x80}};
  const std::size_t at = bytes_ % kBlockBytes;
  const std::size_t zeros = (at < 56 ? 56 : 56 + kBlockBytes) - at;  // with the 0x80
  write_big(padding.data() + zeros, bits, 8);
  update(std::span(padding).first(zeros + 8));
  Digest digest;
  for (std::size_t i = 0; i < state_.size(); ++i)
    write_big(digest.data() + 4 * i, state_[i], 4);
  return digest;
}

Digest hmac_sha256(std::span<const std::byte> key,
                   std::initializer_list<std::span<const std::byte>> parts) noexcept {
  std::array<std::byte, Sha256::kBlockBytes> block{};
  if (key.size() > block.size()) {
    Sha256 hash;
    hash.update(key);
    std::ranges::copy(hash.finish(), block.begin());
  } else {
    std::ranges::copy(key, block.begin());
  }
  for (std::byte& byte : block)
    byte ^= std::byte{0x36};
  Sha256 inner;
  inner.update(block);
  for (const auto part : parts)
    inner.update(part);
  for (std::byte& byte : block)
    byte ^= std::byte{0x36 ^ 0x5c};
  Sha256 outer;
  outer.update(block);
  outer.update(inner.finish());
  wipe(block);
  return outer.finish();
}

bool same_bytes(std::span<const std::byte> one, std::span<const std::byte> other) noexcept {
  if (one.size() != other.size()) return false;
  volatile std::uint8_t difference = 0;  // so that no compiler stops at the first
  for (std::size_t i = 0; i < one.size(); ++i)
    difference = difference | static_cast<std::uint8_t>(one[i] ^ other[i]);
  return difference == 0;
}

void wipe(std::span<std::byte> secret) noexcept {
  explicit_bzero(secret.data(), secret.size());
}

}  // namespace mooncake_mpi
