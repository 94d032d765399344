// run() is the thread's own; any thread starts and stops it.
#include "transport/watcher.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/start_thread.h"

namespace mooncake_mpi {

bool Watcher::start(Client& client) {
  const std::lock_guard lock(mutex_);
  if (running()) return true;
  if (ended_ || !epoll_.ok()) return false;
  if (nudge_.number() < 0) {
    const int made = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made < 0) return false;
    nudge_ = linux_driver::FileDescriptor(linux_driver::out_of_the_way(made));
    if (!epoll_.add(nudge_.number(), EPOLLIN, kNudge)) return false;
  }
  client_ = &client;
  running_.store(true, std::memory_order_release);
  if (!start_thread(thread_, [this] { run(); })) running_.store(false);
  return running();
}

void Watcher::stop() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  if (!thread_.joinable()) return;
  stopping_.store(true);
  nudge();
  thread_.join();
  running_.store(false);
}

void Watcher::nudge() noexcept {
  const std::uint64_t one = 1;
  if (nudge_.number() >= 0) [[maybe_unused]]
    const ssize_t written = write(nudge_.number(), &one, sizeof one);
}

void Watcher::run() {
  std::array<epoll_event, 16> events;
  std::size_t count = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    const std::uint64_t next = client_->on_turn(std::span(events).first(count));
    int timeout_ms = -1;
    if (next != kNever) {
      const std::uint64_t now = now_ns();
      const std::uint64_t left = next > now ? next - now : 0;
      timeout_ms = static_cast<int>(std::min<std::uint64_t>((left + 999'999) / 1'000'000, 60'000));
    }
    count = epoll_.wait(events, timeout_ms);
    std::uint64_t nudges;
    for (std::size_t i = 0; i < count; ++i) {
      if (events[i].data.u64 != kNudge) continue;
      while (read(nudge_.number(), &nudges, sizeof nudges) > 0) {
      }
    }
  }
}

}  // namespace mooncake_mpi
