// Memory of a test, ordinary, of the process's pool or of a device, and messages whose bytes tell
// which they are. For the thread that runs the test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "memory/buffer.h"
#include "transport/transport.h"

namespace mooncake_mpi::testing {

enum class Place : std::uint8_t {
  kOrdinary,
  kShared,  // memory that peers can map
  kDevice,  // memory that the processor must not touch
  kCuda,    // of a GPU of the fake driver: sends' and receives' are on different ones
};

// Where the buffers of the running test lie.
void place_buffers(Place sends, Place receives);

// Memory of a test.
class TestMemory {
 public:
  TestMemory(std::size_t bytes, Place place);
  ~TestMemory();
  TestMemory(TestMemory&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), address_(other.address_), place_(other.place_) {}
  TestMemory& operator=(TestMemory&&) = delete;

  // For the test.
  std::span<std::byte> bytes() const { return bytes_; }
  // For the engine: the first `bytes` of it.
  Buffer buffer(std::size_t bytes) const;

 private:
  std::span<std::byte> bytes_;
  std::byte* address_;
  Place place_;
};

// A receive buffer with bytes behind it that must stay as they are.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t bytes);
  Buffer buffer();
  Bytes bytes() const { return memory_.bytes().first(size_); }
  // Holds the first bytes of the message `seed`, and nothing was written behind them.
  void expect(std::uint32_t seed, std::size_t bytes) const;

 private:
  static constexpr std::size_t kGuard = 64;
  std::size_t size_;
  TestMemory memory_;
};

// The message `seed`: bytes that no other message or offset has.
class MessageBytes {
 public:
  MessageBytes(std::uint32_t seed, std::size_t bytes);
  Buffer buffer();
  Bytes bytes() const { return memory_.bytes(); }

 private:
  TestMemory memory_;
};

}  // namespace mooncake_mpi::testing
