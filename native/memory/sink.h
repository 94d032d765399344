#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mooncake_mpi {

enum class Landing : std::uint8_t { kUnderWay, kDone, kFailed };

// Takes a message's bytes, in order, to where the processor cannot store them. Engine lock held for
// every call. Once it is destroyed nothing writes the program's memory any more.
class Sink {
 public:
  virtual ~Sink() = default;
  // Where bytes from `offset` of the message on may be put, `most` at most; empty: no room now. The
  // room of an offset stays until it is put.
  virtual std::span<std::byte> room(std::uint64_t offset, std::uint64_t most) noexcept = 0;
  // They are in the room of that offset.
  virtual void put(std::uint64_t offset, std::uint64_t bytes) noexcept = 0;
  // Takes the place of `other`, of the same memory of a device, if nothing has been put there.
  virtual bool replace(Sink& /*other*/) noexcept { return false; }
  // Whether all that was put is where the program finds it.
  virtual Landing landed() noexcept = 0;
};

}  // namespace mooncake_mpi
