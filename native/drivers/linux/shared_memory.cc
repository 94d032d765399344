#include "drivers/linux/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace mooncake_mpi::linux_driver {
namespace {

Failure system_failure(std::string what) {
  int code = errno;
  Error error =
      code == ENOMEM || code == EMFILE || code == ENFILE ? Error::kNoMemory : Error::kOther;
  return {error, std::move(what) + ": " + std::strerror(code)};
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) munmap(address_, bytes_);
}

void Mapping::discard(std::size_t offset, std::size_t bytes) noexcept {
  madvise(address_ + offset, bytes, MADV_REMOVE);
}

Result<SharedMemory> SharedMemory::create(const char* label, std::size_t bytes) {
  int descriptor = memfd_create(label, MFD_CLOEXEC);
  if (descriptor < 0) return system_failure("cannot create shared memory");
  SharedMemory memory(descriptor);
  if (ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) {
    return system_failure("cannot size shared memory to " + std::to_string(bytes) + " bytes");
  }
  return memory;
}

Result<SharedMemory> SharedMemory::open_peer(pid_t pid, int descriptor) {
  std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  int mine = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (mine < 0)
    return system_failure("cannot open the shared memory of process " + std::to_string(pid));
  return SharedMemory(mine);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (descriptor_ >= 0) close(descriptor_);
}

Result<Mapping> SharedMemory::map(std::size_t offset, std::size_t bytes) const {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_,
                       static_cast<off_t>(offset));
  if (address == MAP_FAILED) {
    return system_failure("cannot map " + std::to_string(bytes) + " bytes of shared memory");
  }
  return Mapping(static_cast<std::byte*>(address), bytes);
}

}  // namespace mooncake_mpi::linux_driver
