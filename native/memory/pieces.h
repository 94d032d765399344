#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mooncake_mpi {

// A message whose bytes lie at several places, in this order.
class Pieces {
 public:
  void add(const std::byte* address, std::uint64_t bytes) {
    if (bytes == 0) return;
    const std::uint64_t start = this->bytes();
    pieces_.push_back({address, start, start + bytes});
  }

  std::uint64_t bytes() const noexcept { return pieces_.empty() ? 0 : pieces_.back().end; }

  // What lies without a gap from byte `offset` of the message on; `offset` is less than bytes().
  std::span<const std::byte> run(std::uint64_t offset) const noexcept {
    const auto piece = std::ranges::upper_bound(pieces_, offset, {}, &Piece::end);
    return {piece->address + (offset - piece->start), piece->end - offset};
  }

 private:
  struct Piece {
    const std::byte* address;
    std::uint64_t start;  // of the message
    std::uint64_t end;
  };

  std::vector<Piece> pieces_;
};

}  // namespace mooncake_mpi
