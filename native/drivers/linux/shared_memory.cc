// Anonymous files in memory, of this process or a peer, and their mappings. Any thread, one at a
// time for an object; takes no lock.
#include "drivers/linux/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

// Not executable, where the kernel knows the flag (6.3); an administrator may insist on it.
int create_file(const char* label) {
#ifdef MFD_NOEXEC_SEAL
  const unsigned no_exec = MFD_NOEXEC_SEAL;
#else
  const unsigned no_exec = 0x0008u;
#endif
  const int descriptor = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING | no_exec);
  if (descriptor >= 0 || errno != EINVAL) return descriptor;
  return memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

// Growing a file past this limit would raise SIGXFSZ.
bool fits_file_limit(std::size_t bytes) {
  rlimit limit{};
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
         bytes <= limit.rlim_cur;
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void Mapping::keep_from_children() const noexcept {
  if (address_ != nullptr) madvise(address_, bytes_, MADV_DONTFORK);
}

Mapping::~Mapping() {
  if (address_ != nullptr) munmap(address_, bytes_);
}

bool Mapping::discard(std::size_t offset, std::size_t bytes) const noexcept {
  return madvise(address_ + offset, bytes, MADV_REMOVE) == 0;
}

Result<SharedMemory> SharedMemory::create(const char* label, std::size_t bytes) {
  if (!fits_file_limit(bytes)) {
    return Failure{Error::kNoMemory, "cannot size shared memory to " + std::to_string(bytes) +
                                         " bytes: the limit of file sizes is lower"};
  }
  int descriptor = create_file(label);
  if (descriptor < 0) return system_failure("cannot create shared memory");
  SharedMemory memory(out_of_the_way(descriptor));
  descriptor = memory.descriptor();
  if (fchmod(descriptor, S_IRUSR | S_IWUSR) != 0 ||
      ftruncate(descriptor, static_cast<off_t>(bytes)) != 0 ||
      fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_failure("cannot size shared memory to " + std::to_string(bytes) + " bytes");
  }
  return memory;
}

Result<SharedMemory> SharedMemory::open_peer(pid_t pid, int descriptor) {
  std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  int mine = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (mine < 0)
    return system_failure("cannot open the shared memory of process " + std::to_string(pid));
  return SharedMemory(mine);
}

Result<std::size_t> SharedMemory::sealed_bytes() const {
  const int seals = fcntl(descriptor(), F_GET_SEALS);
  struct stat status {};
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(descriptor(), &status) != 0) {
    return Failure{Error::kOther, "not a sealed piece of shared memory"};
  }
  return static_cast<std::size_t>(status.st_size);
}

bool SharedMemory::reserve(std::size_t offset, std::size_t bytes) const noexcept {
  return file_.is_ours() && fallocate(descriptor(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                                      static_cast<off_t>(bytes)) == 0;
}

bool SharedMemory::make_private(const Mapping& mapping) const noexcept {
  return file_.is_ours() &&
         mmap(mapping.data(), mapping.size(), PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, descriptor(), 0) != MAP_FAILED;
}

Result<Mapping> SharedMemory::map(std::size_t offset, std::size_t bytes) const {
  if (!file_.is_ours()) {
    return Failure{Error::kNoMemory, "the descriptor of shared memory was closed by the program"};
  }
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor(),
                       static_cast<off_t>(offset));
  if (address == MAP_FAILED) {
    return system_failure("cannot map " + std::to_string(bytes) + " bytes of shared memory");
  }
  // A core dump would fill the holes of the file with pages.
  madvise(address, bytes, MADV_DONTDUMP);
  return Mapping(static_cast<std::byte*>(address), bytes);
}

}  // namespace mooncake_mpi::linux_driver
