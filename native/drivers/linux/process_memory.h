#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "drivers/linux/life_mark.h"

namespace mooncake_mpi::linux_driver {

// A process by its number, which another one may have been given since, and by a word that only the
// right one has at that address.
struct RemoteProcess {
  pid_t pid = 0;
  std::uint64_t probe_address = 0;
  std::uint64_t probe_word = 0;
  const LifeMark* mark = nullptr;  // of the right one, if it is mapped here
};

// Copies between this process and another one's address space (cross-memory attach).
class ProcessMemory {
 public:
  virtual ~ProcessMemory() = default;
  // Copy exactly `bytes`; 0, or the errno of the failure (EPERM, ENOSYS, EFAULT; ESRCH: the process
  // is no more, whoever has its number now). What was read of another process is to be thrown away.
  virtual int read(const RemoteProcess& process, void* local, std::uint64_t remote,
                   std::size_t bytes) = 0;
  virtual int write(const RemoteProcess& process, const void* local, std::uint64_t remote,
                    std::size_t bytes) = 0;
};

// process_vm_readv / process_vm_writev. The constructor lets peers of the same user attach where
// the Yama module would restrict them to descendants.
class SystemProcessMemory final : public ProcessMemory {
 public:
  SystemProcessMemory() noexcept;
  int read(const RemoteProcess& process, void* local, std::uint64_t remote,
           std::size_t bytes) override;
  int write(const RemoteProcess& process, const void* local, std::uint64_t remote,
            std::size_t bytes) override;
};

// Refuses everything with `error`: what a seccomp filter or Yama does, or the user by
// configuration.
class RefusedProcessMemory final : public ProcessMemory {
 public:
  explicit RefusedProcessMemory(int error) noexcept : error_(error) {}
  int read(const RemoteProcess&, void*, std::uint64_t, std::size_t) override { return error_; }
  int write(const RemoteProcess&, const void*, std::uint64_t, std::size_t) override {
    return error_;
  }

 private:
  int error_;
};

}  // namespace mooncake_mpi::linux_driver
