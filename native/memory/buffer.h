#pragma once

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi {

// A user's buffer: the engine borrows it until the operation completes.
struct Buffer {
  std::byte* address = nullptr;
  std::uint64_t bytes = 0;
};

}  // namespace mooncake_mpi
