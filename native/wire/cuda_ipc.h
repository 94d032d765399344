// What the movers of GPU memory tell each other. Fixed layouts, little-endian; docs/wire.md
// describes them. No state: any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace mooncake_mpi::wire {

// An offer: the sender's bytes are on a GPU, whose copy engine can take them elsewhere.
struct OnDevice {
  static constexpr std::uint32_t kKind = 1;
  std::uint32_t kind = kKind;
};
static_assert(sizeof(OnDevice) == 4);

// To the sender, before the first message into an allocation of the receiver's.
struct DeviceMemory {
  static constexpr std::uint32_t kKind = 2;
  std::uint32_t kind = kKind;
  std::uint32_t reserved = 0;
  std::uint64_t allocation = 0;  // never used again in the receiver's process
  std::uint64_t base = 0;        // there
  std::uint64_t bytes = 0;
  std::array<std::byte, 64> handle{};  // CUipcMemHandle
};
static_assert(sizeof(DeviceMemory) == 96);

// To the sender: it may write the message there.
struct Push {
  static constexpr std::uint32_t kKind = 3;
  std::uint32_t kind = kKind;
  std::uint32_t reserved = 0;
  std::uint64_t receive_id = 0;
  std::uint64_t allocation = 0;
  std::uint64_t offset = 0;  // in it
  std::uint64_t length = 0;  // bytes, as many as the receive takes; not zero
};
static_assert(sizeof(Push) == 40);

// To the receiver: the message is there, or this way is closed.
struct Pushed {
  static constexpr std::uint32_t kKind = 4;
  enum Outcome : std::uint32_t { kByEngine = 0, kFailed = 1, kByKernel = 2 };
  std::uint32_t kind = kKind;
  std::uint32_t outcome = kByEngine;
};
static_assert(sizeof(Pushed) == 8);

// To the receiver, instead of a push: its own copy engine is to take the message from there. It
// answers with Pushed, as if the two had changed places; where it cannot, it is pushed after all.
struct Pull {
  static constexpr std::uint32_t kKind = 5;
  std::uint32_t kind = kKind;
  std::uint32_t reserved = 0;
  std::uint64_t allocation = 0;  // of the sender's
  std::uint64_t offset = 0;      // in it
  std::uint64_t length = 0;      // bytes, as many as the receive takes
};
static_assert(sizeof(Pull) == 32);

// To the sender, instead of Push: where are its bytes? A stream of the receiver's waits for the
// message and takes it from there itself. The answer is Pull, or Pushed of a way that is closed.
struct Reveal {
  static constexpr std::uint32_t kKind = 6;
  std::uint32_t kind = kKind;
  std::uint32_t reserved = 0;
  std::uint64_t receive_id = 0;
  std::uint64_t length = 0;  // bytes, as many as the receive takes; not zero
};
static_assert(sizeof(Reveal) == 24);

// Checked field by field; nothing where `bytes` is no such thing.
bool is_on_device(std::span<const std::byte> key);
std::optional<DeviceMemory> decode_device_memory(std::span<const std::byte> note);
std::optional<Push> decode_push(std::span<const std::byte> note);
std::optional<Pushed> decode_pushed(std::span<const std::byte> note);
std::optional<Pull> decode_pull(std::span<const std::byte> note);
std::optional<Reveal> decode_reveal(std::span<const std::byte> note);

}  // namespace mooncake_mpi::wire
