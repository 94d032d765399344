#include "drivers/linux/cores.h"

#include <sched.h>

#include <algorithm>
#include <bit>

namespace mooncake_mpi::linux_driver {

CoreSet::CoreSet(pid_t process) noexcept {
  words_.fill(0);
  if (sched_getaffinity(process, sizeof words_, reinterpret_cast<cpu_set_t*>(words_.data())) != 0) {
    words_.fill(~std::uint64_t{0});
  }
}

int CoreSet::count() const noexcept {
  int count = 0;
  for (const std::uint64_t word : words_)
    count += std::popcount(word);
  return count;
}

bool CoreSet::shares_any(const CoreSet& other) const noexcept {
  return !std::equal(words_.begin(), words_.end(), other.words_.begin(),
                     [](std::uint64_t mine, std::uint64_t theirs) { return (mine & theirs) == 0; });
}

}  // namespace mooncake_mpi::linux_driver
