// A set of descriptors that something can happen to. Any thread.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <span>

#include "drivers/linux/file_descriptor.h"

namespace mooncake_mpi::linux_driver {

class Epoll {
 public:
  Epoll() noexcept;

  bool ok() const noexcept { return file_.number() >= 0; }
  int descriptor() const noexcept { return file_.number(); }
  // `events` as epoll_ctl(2) has them; false: the system refuses.
  bool add(int descriptor, std::uint32_t events, std::uint64_t tag) noexcept {
    return control(EPOLL_CTL_ADD, descriptor, events, tag);
  }
  bool change(int descriptor, std::uint32_t events, std::uint64_t tag) noexcept {
    return control(EPOLL_CTL_MOD, descriptor, events, tag);
  }
  void remove(int descriptor) noexcept { control(EPOLL_CTL_DEL, descriptor, 0, 0); }
  // How many of `events` it filled in; zero: none in that time (-1: for ever).
  std::size_t wait(std::span<epoll_event> events, int timeout_ms) noexcept;

 private:
  bool control(int operation, int descriptor, std::uint32_t events, std::uint64_t tag) noexcept;

  FileDescriptor file_;
};

}  // namespace mooncake_mpi::linux_driver
