#pragma once

#include <time.h>

#include <cstdint>

namespace mooncake_mpi {

// Monotonic time in nanoseconds; a vDSO call of about 20 ns.
inline std::uint64_t now_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(time.tv_nsec);
}

// Tells the core that this is a spin loop, so that its sibling and the memory system are spared.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

}  // namespace mooncake_mpi
