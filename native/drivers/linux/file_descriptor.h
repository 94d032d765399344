#pragma once

#include <sys/types.h>

namespace mooncake_mpi::linux_driver {

// A descriptor of this library's own, closed at the end of its life. Its number alone is no proof:
// a program that closes descriptors which it does not know may have given the number to a file of
// its own, which is not to be touched.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  // -1: none.
  explicit FileDescriptor(int number) noexcept;
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int number() const noexcept { return number_; }
  // Whether the number still means the file that it was made for. Files that have no identity of
  // their own, such as epoll's, are told from others by their kind only.
  bool is_ours() const noexcept;
  // It was closed by somebody else: the number is left alone from now on.
  void forget() noexcept { number_ = -1; }
  ino_t inode() const noexcept { return inode_; }

 private:
  int number_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// The same file under a number that programs which close "all" descriptors rarely come to; closes
// the other one. Gives back what it was given where that cannot be.
int out_of_the_way(int number) noexcept;

}  // namespace mooncake_mpi::linux_driver
