#pragma once

#include <cstddef>

namespace mooncake_mpi {

// memcpy for a part of a large transfer. A transfer that does not fit the caches (`past_caches`)
// is stored around them: fetching every line of the target first, and pushing out of the caches
// what the program has there, would cost more than the copy itself.
void copy_bytes(void* to, const void* from, std::size_t bytes, bool past_caches) noexcept;

}  // namespace mooncake_mpi
