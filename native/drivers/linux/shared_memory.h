#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace mooncake_mpi::linux_driver {

// A mapping of shared memory, unmapped at the end of its life.
class Mapping {
 public:
  Mapping() = default;
  Mapping(std::byte* address, std::size_t bytes) noexcept : address_(address), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::byte* data() const noexcept { return address_; }
  std::size_t size() const noexcept { return bytes_; }
  // Gives whole pages back to the system, in every process that maps them: they read as zero.
  void discard(std::size_t offset, std::size_t bytes) noexcept;

 private:
  std::byte* address_ = nullptr;
  std::size_t bytes_ = 0;
};

// An anonymous file in memory (memfd). It has no name in any file system and goes with the last
// process that holds it, however that process ends; /dev/shm's size does not limit it.
class SharedMemory {
 public:
  static Result<SharedMemory> create(const char* label, std::size_t bytes);
  // Another process's file, through /proc: the kernel lets in whom it would let debug that process.
  static Result<SharedMemory> open_peer(pid_t pid, int descriptor);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  int descriptor() const noexcept { return descriptor_; }
  Result<Mapping> map(std::size_t offset, std::size_t bytes) const;

 private:
  explicit SharedMemory(int descriptor) noexcept : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace mooncake_mpi::linux_driver
