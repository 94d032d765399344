#include "drivers/linux/file_descriptor.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace mooncake_mpi::linux_driver {

FileDescriptor::FileDescriptor(int number) noexcept : number_(number) {
  struct stat status {};
  if (number >= 0 && fstat(number, &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept {
  *this = std::move(other);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(number_, other.number_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (is_ours()) close(number_);
}

bool FileDescriptor::is_ours() const noexcept {
  struct stat status {};
  return number_ >= 0 && fstat(number_, &status) == 0 && status.st_dev == device_ &&
         status.st_ino == inode_;
}

// A table of descriptors grows with its largest number, so not to the very end of a large limit.
int out_of_the_way(int number) noexcept {
  constexpr rlim_t kHigh = 900;
  rlimit limit{};
  if (number < 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return number;
  const auto from = static_cast<int>(std::min(kHigh, limit.rlim_cur / 4 * 3));
  const int moved = number >= from ? -1 : fcntl(number, F_DUPFD_CLOEXEC, from);
  if (moved < 0) return number;
  close(number);
  return moved;
}

}  // namespace mooncake_mpi::linux_driver
