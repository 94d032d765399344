// run() is the thread's own; any thread starts and stops it.
#include "transport/watcher.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
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
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer >= 0) {  // it does without
    alarm_ = linux_driver::FileDescriptor(linux_driver::out_of_the_way(timer));
    epoll_.add(alarm_.number(), EPOLLIN, kAlarm);
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

bool Watcher::set_alarm(std::uint64_t in_ns) noexcept {
  itimerspec when{};
  when.it_value.tv_nsec = static_cast<long>(std::clamp<std::uint64_t>(in_ns, 1, 999'999'999));
  return alarm_.number() >= 0 && timerfd_settime(alarm_.number(), 0, &when, nullptr) == 0;
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
    std::uint64_t times;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t tag = events[i].data.u64;
      if (tag != kNudge && tag != kAlarm) continue;
      while (read((tag == kNudge ? nudge_ : alarm_).number(), &times, sizeof times) > 0) {
      }
    }
  }
}

}  // namespace mooncake_mpi
