#pragma once

#include <cstddef>
#include <span>

namespace mooncake_mpi::linux_driver {

// Random numbers of the kernel, that nobody guesses; false where it gives none.
bool fill_random(std::span<std::byte> bytes) noexcept;

}  // namespace mooncake_mpi::linux_driver
