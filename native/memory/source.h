#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mooncake_mpi {

// The bytes of a message that do not lie in one piece of host memory: what is sent asks for them in
// order. Engine lock held for every call.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::uint64_t bytes() const noexcept = 0;
  // What can be read from byte `offset` of the message on, `most` bytes at most, as far as they lie
  // without a gap; empty: not yet. Valid until the next call. Who asks for earlier bytes than
  // before begins again.
  virtual std::span<const std::byte> at(std::uint64_t offset, std::uint64_t most) noexcept = 0;
  // Whether the message may be told of as one that has begun, if it has no bytes.
  virtual bool ready() noexcept { return true; }
  // The bytes will never come.
  virtual bool failed() const noexcept { return false; }
};

}  // namespace mooncake_mpi
