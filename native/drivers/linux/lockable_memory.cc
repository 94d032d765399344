#include "drivers/linux/lockable_memory.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace mooncake_mpi::linux_driver {
namespace {

// CAP_IPC_LOCK: no limit binds.
bool may_lock_all() noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  return syscall(SYS_capget, &header, data) == 0 && (data[0].effective >> CAP_IPC_LOCK & 1) != 0;
}

}  // namespace

std::uint64_t lockable_memory_bytes() noexcept {
  const auto pages = static_cast<std::uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L));
  const std::uint64_t memory = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  rlimit limit{};
  if (may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return memory;
  return std::min<std::uint64_t>(memory, limit.rlim_cur);  // RLIM_INFINITY is the largest
}

}  // namespace mooncake_mpi::linux_driver
