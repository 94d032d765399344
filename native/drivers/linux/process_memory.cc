#include "drivers/linux/process_memory.h"

#include <sys/prctl.h>
#include <sys/uio.h>

#include <cerrno>

namespace mooncake_mpi::linux_driver {
namespace {

void* pointer(std::uint64_t address) noexcept {
  return reinterpret_cast<void*>(address);
}

bool is_marked(const RemoteProcess& process) noexcept {
  return process.mark != nullptr && process.mark->is_held();
}

// Whether the process of that number is the right one; 0 or an errno.
int ask(const RemoteProcess& process) noexcept {
  std::uint64_t seen = 0;
  iovec here{&seen, sizeof seen};
  iovec there{pointer(process.probe_address), sizeof seen};
  const ssize_t moved = process_vm_readv(process.pid, &here, 1, &there, 1, 0);
  if (moved < 0) return errno == EFAULT ? ESRCH : errno;
  return seen == process.probe_word ? 0 : ESRCH;
}

// The same: one that lives has its number, and has had it all the time; of one whose mark says
// nothing the kernel is asked, which takes as long as to copy 16 KiB.
int prove(const RemoteProcess& process) noexcept {
  return is_marked(process) ? 0 : ask(process);
}

int prove_after_copy(const RemoteProcess& process) noexcept {
  return process.mark != nullptr && process.mark->is_still_held() ? 0 : ask(process);
}

// A fault at the first byte: of the right process's memory, or of a stranger's.
int fault_of(const RemoteProcess& process) noexcept {
  const int error = prove_after_copy(process);
  return error != 0 ? error : EFAULT;
}

}  // namespace

SystemProcessMemory::SystemProcessMemory() noexcept {
#ifdef PR_SET_PTRACER
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // EINVAL without Yama: nothing to allow
#endif
}

// The kernel may stop short at 2 GiB - 4 KiB or at an unmapped page: go on until all is copied or
// it makes no headway, which is how a fault in the middle shows itself. Without a mark the probe
// word is read in the same call, which copies from one address space whatever becomes of the number
// meanwhile.
int SystemProcessMemory::read(const RemoteProcess& process, void* local, std::uint64_t remote,
                              std::size_t bytes) {
  auto* to = static_cast<std::byte*>(local);
  while (bytes > 0) {
    const bool marked = is_marked(process);
    std::uint64_t seen = 0;
    iovec here[] = {{to, bytes}, {&seen, sizeof seen}};
    iovec there[] = {{pointer(remote), bytes}, {pointer(process.probe_address), sizeof seen}};
    const ssize_t moved =
        process_vm_readv(process.pid, here, marked ? 1 : 2, there, marked ? 1 : 2, 0);
    if (moved < 0) return errno == EFAULT ? fault_of(process) : errno;
    const auto count = static_cast<std::size_t>(moved);
    if (count > bytes)
      return count == bytes + sizeof seen && seen == process.probe_word ? 0 : ESRCH;
    // The word was not read: whose bytes these are is asked for alone.
    if (const int error = prove_after_copy(process); error != 0) return error;
    if (count == 0) return EFAULT;
    to += count;
    remote += count;
    bytes -= count;
  }
  return 0;
}

// A write cannot be taken back, so there is a proof right before it; and one behind it, since a
// number that was another's in between is not the right one's again.
int SystemProcessMemory::write(const RemoteProcess& process, const void* local,
                               std::uint64_t remote, std::size_t bytes) {
  auto* from = const_cast<std::byte*>(static_cast<const std::byte*>(local));
  while (bytes > 0) {
    if (const int error = prove(process); error != 0) return error;
    iovec here{from, bytes};
    iovec there{pointer(remote), bytes};
    const ssize_t moved = process_vm_writev(process.pid, &here, 1, &there, 1, 0);
    if (moved < 0) return errno;
    if (moved == 0) return EFAULT;
    from += moved;
    remote += static_cast<std::uint64_t>(moved);
    bytes -= static_cast<std::size_t>(moved);
  }
  return prove_after_copy(process);
}

}  // namespace mooncake_mpi::linux_driver
