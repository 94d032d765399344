// The thread that sleeps on the adapters' events: run() and take() are its own. Without the
// engine's lock; one of its own guards the events until a poll takes them.
#include "transport/verbs/watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "base/clock.h"
#include "base/start_thread.h"
#include "transport/transport.h"

namespace mooncake_mpi::verbs {

void Watcher::start(Waker& waker, const std::vector<std::unique_ptr<Rail>>& rails) {
  if (thread_.joinable()) return;
  wake_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_ < 0) return;  // waiting threads still poll, now and then
  waker_ = &waker;
  rails_.clear();
  for (const auto& rail : rails)
    rails_.push_back(rail.get());
  stopping_.store(false);
  if (!start_thread(thread_, [this] { run(); })) {  // as above
    close(wake_);
    wake_ = -1;
  }
}

void Watcher::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof one);
  thread_.join();
  close(wake_);
  wake_ = -1;
}

void Watcher::set_interval(std::uint64_t interval_ns) {
  if (interval_ns_.exchange(interval_ns, std::memory_order_relaxed) == interval_ns) return;
  const std::uint64_t one = 1;
  if (wake_ >= 0) [[maybe_unused]]
    const ssize_t written = write(wake_, &one, sizeof one);
}

std::vector<Watcher::Event> Watcher::take_events() {
  const std::lock_guard lock(mutex_);
  has_events_.store(false, std::memory_order_relaxed);
  return std::exchange(events_, {});
}

// What has happened on a rail; true if a port changed.
bool Watcher::take(Rail& rail, bool& datagrams, bool& packets) {
  while (verbs_driver::CompletionQueue* queue = rail.device().take_completion_event()) {
    if (queue == &rail.datagram_completions()) {
      queue->arm();  // before it is polled, so that nothing is missed
      datagrams_.store(true, std::memory_order_release);
      datagrams = true;
    } else {
      packets = true;
    }
  }
  bool changed = false;
  while (auto event = rail.device().take_event()) {
    if (event->port != 0 && event->port != rail.port().port) continue;
    const std::lock_guard lock(mutex_);
    events_.push_back({&rail, *event});
    has_events_.store(true, std::memory_order_release);
    changed = true;
  }
  return changed;
}

void Watcher::run() {
  for (Rail* rail : rails_)
    rail->datagram_completions().arm();
  datagrams_.store(true, std::memory_order_release);
  waker_->poll_now();  // what came before the queues were armed
  std::vector<pollfd> descriptors;
  descriptors.push_back({.fd = wake_, .events = POLLIN, .revents = 0});
  for (Rail* rail : rails_) {
    descriptors.push_back(
        {.fd = rail->device().completion_descriptor(), .events = POLLIN, .revents = 0});
    descriptors.push_back(
        {.fd = rail->device().event_descriptor(), .events = POLLIN, .revents = 0});
  }
  std::uint64_t last_tick = now_ns();
  while (!stopping_.load(std::memory_order_relaxed)) {
    const std::uint64_t interval_ns = interval_ns_.load(std::memory_order_relaxed);
    int timeout_ms = -1;
    if (interval_ns != 0) {
      const std::uint64_t passed = now_ns() - last_tick;
      timeout_ms =
          passed >= interval_ns ? 0 : static_cast<int>((interval_ns - passed) / 1'000'000 + 1);
    }
    ::poll(descriptors.data(), descriptors.size(), timeout_ms);
    if (stopping_.load(std::memory_order_relaxed)) break;
    bool poll_now = false;
    if (interval_ns != 0 && now_ns() - last_tick >= interval_ns) {
      last_tick = now_ns();
      due_.store(true, std::memory_order_release);
      poll_now = true;
    }
    std::uint64_t count;
    while (read(wake_, &count, sizeof count) > 0) {
    }
    bool packets = false;
    for (Rail* rail : rails_) {
      if (take(*rail, poll_now, packets)) poll_now = true;
    }
    if (poll_now) waker_->poll_now();
    if (packets || poll_now) waker_->wake();
  }
}

}  // namespace mooncake_mpi::verbs
