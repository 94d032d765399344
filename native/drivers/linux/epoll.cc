#include "drivers/linux/epoll.h"

namespace mooncake_mpi::linux_driver {

Epoll::Epoll() noexcept : file_(out_of_the_way(epoll_create1(EPOLL_CLOEXEC))) {}

bool Epoll::control(int operation, int descriptor, std::uint32_t events,
                    std::uint64_t tag) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  return epoll_ctl(file_.number(), operation, descriptor, &event) == 0;
}

std::size_t Epoll::wait(std::span<epoll_event> events, int timeout_ms) noexcept {
  const int count =
      epoll_wait(file_.number(), events.data(), static_cast<int>(events.size()), timeout_ms);
  return count > 0 ? static_cast<std::size_t>(count) : 0;
}

}  // namespace mooncake_mpi::linux_driver
