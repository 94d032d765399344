#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi {

class MemoryDevice;

// A user's buffer: the engine borrows it until the operation completes.
struct Buffer {
  std::byte* address = nullptr;
  std::uint64_t bytes = 0;
  MemoryDevice* device =
      nullptr;                // whose memory the processor does not load or store; null: the host's
  std::uintptr_t stream = 0;  // of the device, in whose order the program uses the buffer
};

}  // namespace mooncake_mpi
