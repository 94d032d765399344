#include "drivers/linux/random.h"

#include <sys/random.h>

#include <cerrno>

namespace mooncake_mpi::linux_driver {

bool fill_random(std::span<std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

}  // namespace mooncake_mpi::linux_driver
