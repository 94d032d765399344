#pragma once

#include <cstdint>

namespace mooncake_mpi::linux_driver {

// Bytes of memory that this process may lock: all there are, or RLIMIT_MEMLOCK where it binds.
std::uint64_t lockable_memory_bytes() noexcept;

}  // namespace mooncake_mpi::linux_driver
