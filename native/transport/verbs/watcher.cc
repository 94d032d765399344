// What the thread does that sleeps on the adapters' events: on_turn() and take() are its own.
// Without the engine's lock; one of its own guards the events until a poll takes them.
#include "transport/verbs/watcher.h"

#include <utility>

#include "base/clock.h"
#include "transport/packet_sink.h"

namespace mooncake_mpi::verbs {

// Where no thread can be started waiting threads still poll, now and then.
void EventWatcher::start(Waker& waker, const std::vector<std::unique_ptr<Rail>>& rails) {
  if (watcher_.running()) return;
  waker_ = &waker;
  rails_.clear();
  for (const auto& rail : rails) {
    const std::uint64_t tag = rails_.size();
    watcher_.add(rail->device().completion_descriptor(), EPOLLIN, tag);
    watcher_.add(rail->device().event_descriptor(), EPOLLIN, tag);
    rails_.push_back(rail.get());
  }
  watcher_.start(*this);
}

void EventWatcher::set_interval(std::uint64_t interval_ns) {
  if (interval_ns_.exchange(interval_ns, std::memory_order_relaxed) != interval_ns) {
    watcher_.nudge();
  }
}

std::vector<EventWatcher::Event> EventWatcher::take_events() {
  const std::lock_guard lock(mutex_);
  has_events_.store(false, std::memory_order_relaxed);
  return std::exchange(events_, {});
}

// What has happened on a rail; true if a port changed.
bool EventWatcher::take(Rail& rail, bool& datagrams, bool& packets) {
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

std::uint64_t EventWatcher::on_turn(std::span<const epoll_event>) {
  const std::uint64_t now = now_ns();
  bool poll_now = false;
  if (!std::exchange(armed_, true)) {
    for (Rail* rail : rails_)
      rail->datagram_completions().arm();
    datagrams_.store(true, std::memory_order_release);
    poll_now = true;  // what came before the queues were armed
    last_tick_ = now;
  }
  const std::uint64_t interval_ns = interval_ns_.load(std::memory_order_relaxed);
  if (interval_ns != 0 && now - last_tick_ >= interval_ns) {
    last_tick_ = now;
    due_.store(true, std::memory_order_release);
    poll_now = true;
  }
  bool packets = false;
  for (Rail* rail : rails_) {
    if (take(*rail, poll_now, packets)) poll_now = true;
  }
  if (poll_now) waker_->poll_now();
  if (packets || poll_now) waker_->wake();
  const std::uint64_t next_ns = interval_ns_.load(std::memory_order_relaxed);
  return next_ns == 0 ? Watcher::kNever : last_tick_ + next_ns;
}

}  // namespace mooncake_mpi::verbs
