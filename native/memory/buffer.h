#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi {

// Where bytes live. A lane says which kinds it carries; protocols choose by kind and size.
enum class MemoryKind : std::uint8_t { kHost };

// A user's buffer: the engine borrows it until the operation completes.
struct Buffer {
  std::byte* address = nullptr;
  std::uint64_t bytes = 0;
  MemoryKind kind = MemoryKind::kHost;
};

}  // namespace mooncake_mpi
