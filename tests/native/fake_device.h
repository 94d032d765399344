// Device memory for tests: its addresses are mapped without any right, so that whatever loads or
// stores there ends the test; the device itself copies through a second mapping, late and in small
// steps. For the thread that runs the test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "memory/memory_device.h"

namespace mooncake_mpi::testing {

class FakeDevice final : public MemoryDevice {
 public:
  Result<std::unique_ptr<Source>> source(const Buffer& buffer) override;
  Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) override;

  // What the device and the test see as `bytes` is at a device address that nobody may touch.
  struct Block {
    std::byte* address;
    std::span<std::byte> bytes;
  };
  Block allocate(std::size_t bytes);
  void free(const Block& block);

 private:
  std::span<std::byte> find(const Buffer& buffer) const;

  std::map<const std::byte*, std::span<std::byte>> blocks_;  // by device address
};

FakeDevice& fake_device();

}  // namespace mooncake_mpi::testing
