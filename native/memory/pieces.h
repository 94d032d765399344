#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/source.h"

namespace mooncake_mpi {

// A message whose bytes lie at several places of host memory, in this order.
class Pieces final : public Source {
 public:
  void add(const std::byte* address, std::uint64_t bytes) {
    if (bytes == 0) return;
    const std::uint64_t start = this->bytes();
    pieces_.push_back({address, start, start + bytes});
  }

  std::uint64_t bytes() const noexcept override { return pieces_.empty() ? 0 : pieces_.back().end; }

  // `offset` is less than bytes().
  std::span<const std::byte> at(std::uint64_t offset, std::uint64_t most) noexcept override {
    const auto piece = std::ranges::upper_bound(pieces_, offset, {}, &Piece::end);
    return {piece->address + (offset - piece->start), std::min(most, piece->end - offset)};
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
