#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "drivers/linux/file_descriptor.h"

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
  // False when they could not be.
  bool discard(std::size_t offset, std::size_t bytes) const noexcept;
  // A forked child does not get it.
  void keep_from_children() const noexcept;

 private:
  std::byte* address_ = nullptr;
  std::size_t bytes_ = 0;
};

// An anonymous file in memory (memfd). It has no name in any file system and goes with the last
// process that holds it, however that process ends; /dev/shm's size does not limit it. Its size is
// sealed: no process can cut off what another one has mapped. A program may close descriptors that
// it does not know: calls fail then, and do nothing to the file that has the number.
class SharedMemory {
 public:
  static Result<SharedMemory> create(const char* label, std::size_t bytes);
  // Another process's file, through /proc: the kernel lets in whom it would let debug that process.
  static Result<SharedMemory> open_peer(pid_t pid, int descriptor);

  int descriptor() const noexcept { return file_.number(); }
  // The size; an error when this is no memory whose size is sealed, which a descriptor number that
  // another process gave us may come to mean at any time.
  Result<std::size_t> sealed_bytes() const;
  Result<Mapping> map(std::size_t offset, std::size_t bytes) const;
  // Takes the pages now, so that no later access can fail; false when there are none.
  bool reserve(std::size_t offset, std::size_t bytes) const noexcept;
  // Puts a copy-on-write mapping in the place of a shared one.
  bool make_private(const Mapping& mapping) const noexcept;

 private:
  explicit SharedMemory(int descriptor) noexcept : file_(descriptor) {}
  FileDescriptor file_;
};

}  // namespace mooncake_mpi::linux_driver
