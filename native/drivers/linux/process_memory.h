#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace mooncake_mpi::linux_driver {

// Copies between this process and another one's address space (cross-memory attach).
class ProcessMemory {
 public:
  virtual ~ProcessMemory() = default;
  // Copy exactly `bytes`; 0, or the errno of the failure (EPERM, ENOSYS, ESRCH, EFAULT).
  virtual int read(pid_t pid, void* local, std::uint64_t remote, std::size_t bytes) = 0;
  virtual int write(pid_t pid, const void* local, std::uint64_t remote, std::size_t bytes) = 0;
};

// process_vm_readv / process_vm_writev. The constructor lets peers of the same user attach where
// the Yama module would restrict them to descendants.
class SystemProcessMemory final : public ProcessMemory {
 public:
  SystemProcessMemory() noexcept;
  int read(pid_t pid, void* local, std::uint64_t remote, std::size_t bytes) override;
  int write(pid_t pid, const void* local, std::uint64_t remote, std::size_t bytes) override;
};

// Refuses everything with `error`: what a seccomp filter or Yama does, or the user by
// configuration.
class RefusedProcessMemory final : public ProcessMemory {
 public:
  explicit RefusedProcessMemory(int error) noexcept : error_(error) {}
  int read(pid_t, void*, std::uint64_t, std::size_t) override { return error_; }
  int write(pid_t, const void*, std::uint64_t, std::size_t) override { return error_; }

 private:
  int error_;
};

}  // namespace mooncake_mpi::linux_driver
