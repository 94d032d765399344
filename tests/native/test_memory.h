// Memory of a test, ordinary or of the process's pool, and messages whose bytes tell which they
// are. For the thread that runs the test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "memory/buffer.h"
#include "transport/transport.h"

namespace mooncake_mpi::testing {

// Where the buffers of the running test lie: in memory that peers can map, or not.
void place_buffers(bool send_shared, bool receive_shared);

// Memory of a test: of the process's pool, or ordinary.
class TestMemory {
 public:
  TestMemory(std::size_t bytes, bool shared);
  ~TestMemory();
  TestMemory(TestMemory&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), shared_(other.shared_) {}
  TestMemory& operator=(TestMemory&&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
  bool shared_;
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
