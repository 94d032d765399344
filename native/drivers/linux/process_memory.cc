#include "drivers/linux/process_memory.h"

#include <sys/prctl.h>
#include <sys/uio.h>

#include <cerrno>

namespace mooncake_mpi::linux_driver {
namespace {

// The kernel may stop short at 2 GiB - 4 KiB or at an unmapped page: go on until all is copied or
// it makes no headway, which is how a fault in the middle shows itself.
template <class Call>
int copy_all(Call call, std::byte* local, std::uint64_t remote, std::size_t bytes) noexcept {
  while (bytes > 0) {
    iovec here{local, bytes};
    iovec there{reinterpret_cast<void*>(remote), bytes};
    ssize_t moved = call(here, there);
    if (moved < 0) return errno;
    if (moved == 0) return EFAULT;
    local += moved;
    remote += static_cast<std::uint64_t>(moved);
    bytes -= static_cast<std::size_t>(moved);
  }
  return 0;
}

}  // namespace

SystemProcessMemory::SystemProcessMemory() noexcept {
#ifdef PR_SET_PTRACER
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // EINVAL without Yama: nothing to allow
#endif
}

int SystemProcessMemory::read(pid_t pid, void* local, std::uint64_t remote, std::size_t bytes) {
  return copy_all(
      [pid](iovec& here, iovec& there) { return process_vm_readv(pid, &here, 1, &there, 1, 0); },
      static_cast<std::byte*>(local), remote, bytes);
}

int SystemProcessMemory::write(pid_t pid, const void* local, std::uint64_t remote,
                               std::size_t bytes) {
  return copy_all(
      [pid](iovec& here, iovec& there) { return process_vm_writev(pid, &here, 1, &there, 1, 0); },
      const_cast<std::byte*>(static_cast<const std::byte*>(local)), remote, bytes);
}

}  // namespace mooncake_mpi::linux_driver
