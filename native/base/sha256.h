#pragma once

// SHA-256 (FIPS 180-4) and HMAC-SHA256 (RFC 2104), and how digests are compared. Any thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace mooncake_mpi {

using Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  static constexpr std::size_t kBlockBytes = 64;

  void update(std::span<const std::byte> bytes) noexcept;
  // Once, at the end.
  Digest finish() noexcept;

 private:
  void compress(const std::byte* block) noexcept;

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, kBlockBytes> block_;
  std::uint64_t bytes_ = 0;
};

// Of the parts, one after the other.
Digest hmac_sha256(std::span<const std::byte> key,
                   std::initializer_list<std::span<const std::byte>> parts) noexcept;

// Whether they are equal, in a time that does not depend on where they differ.
bool same_bytes(std::span<const std::byte> one, std::span<const std::byte> other) noexcept;

// Overwrites what was secret; no compiler leaves it out.
void wipe(std::span<std::byte> secret) noexcept;

inline std::span<const std::byte> bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span(text));
}

}  // namespace mooncake_mpi
