#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace mooncake_mpi::linux_driver {

// The cores that threads may run on, sched_getaffinity(2).
class CoreSet {
 public:
  // Of the calling thread (0), or of a process's main thread; of a process that cannot be looked
  // at, all.
  explicit CoreSet(pid_t process) noexcept;

  int count() const noexcept;
  bool shares_any(const CoreSet& other) const noexcept;

 private:
  static constexpr std::size_t kMostCores = 8192;  // that kernels are built for
  std::array<std::uint64_t, kMostCores / 64> words_;
};

}  // namespace mooncake_mpi::linux_driver
