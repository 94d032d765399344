// When the progress thread works, looks now and then, or sleeps. unpark() and stop() take its own
// lock, for the thread's life; the thread itself takes the engine's for each poll, as a visitor.
#include "engine/progress_thread.h"

#include <sys/prctl.h>

#include <algorithm>

#include "base/clock.h"
#include "base/start_thread.h"
#include "drivers/linux/futex.h"
#include "engine/engine.h"

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kDrowsyNs = 20'000'000;
constexpr std::uint64_t kLookEveryNs = 1'000'000;
constexpr std::uint64_t kAlertNs = 50'000;
constexpr std::uint64_t kIdlePollNs = 20'000;
constexpr std::uint64_t kStreamPollNs = 200'000;  // for what streams wait for
constexpr unsigned long kSlackNs = 1'000;         // of its naps; the kernel's own is 50 us
constexpr std::uint64_t kTryAgainNs = 1'000'000'000;
constexpr std::uint64_t kSleepNs = 50'000'000;

}  // namespace

void ProgressThread::unpark() {
  std::lock_guard lock(mutex_);
  if (!thread_.joinable()) {
    stopping_.store(false);
    // Without a thread the program's own calls make progress; it is asked for again after a while.
    const std::uint64_t now = now_ns();
    if (now < try_again_ns_) return;
    if (!start_thread(thread_, [this] { run(); })) {
      try_again_ns_ = now + kTryAgainNs;
      return;
    }
  }
  rouse();
}

void ProgressThread::rouse() {
  rest_.store(kActive, std::memory_order_seq_cst);
  linux_driver::futex_wake_all(rest_);
}

// Until the next look, or a large transfer.
void ProgressThread::doze() {
  rest_.store(kDrowsy, std::memory_order_seq_cst);
  const bool urgent = unfinished() && engine_.protocol_.background_count() != 0;
  if (!urgent && !stopping_.load(std::memory_order_seq_cst)) {
    linux_driver::futex_wait(rest_, kDrowsy, kLookEveryNs);
  }
  rest_.store(kActive, std::memory_order_seq_cst);
}

// A program that posts one large transfer after the other, and then waits for them, needs no help:
// a thread that takes its core from it for each only costs.
void ProgressThread::look_once_more() {
  if (engine_.device_desk_.streams_awaited()) return;
  rest_.store(kAlert, std::memory_order_seq_cst);
  if (unfinished() && !stopping_.load(std::memory_order_seq_cst)) {
    linux_driver::futex_wait(rest_, kAlert, kAlertNs);
  }
  rest_.store(kActive, std::memory_order_seq_cst);
}

void ProgressThread::stop() {
  std::lock_guard lock(mutex_);
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_seq_cst);
  rouse();
  engine_.doorbell_->wake();
  thread_.join();
  thread_ = std::thread();
  rest_.store(kParked, std::memory_order_seq_cst);
}

// A waiting thread does the work itself.
bool ProgressThread::unfinished() const noexcept {
  return engine_.waiters_.load(std::memory_order_seq_cst) == 0 &&
         (engine_.protocol_.unfinished() || engine_.protocol_.owes_answers() ||
          engine_.answering_.load(std::memory_order_relaxed));
}

bool ProgressThread::nobody_polls(std::uint32_t polls) const noexcept {
  return engine_.polls_.load(std::memory_order_relaxed) == polls;
}

void ProgressThread::run() {
  prctl(PR_SET_TIMERSLACK, kSlackNs);
  std::uint64_t last_unfinished = now_ns();
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (unfinished()) {
      const std::uint32_t polls = engine_.polls_.load(std::memory_order_relaxed);
      engine_.protocol_.background_count() == 0 ? doze() : look_once_more();
      if (nobody_polls(polls)) work(polls);
      last_unfinished = now_ns();
    } else if (now_ns() - last_unfinished < kDrowsyNs) {
      doze();
    } else {
      rest_.store(kParked, std::memory_order_seq_cst);
      // Whoever left something unfinished before it could see `rest_` set is seen here; anyone
      // later unparks.
      if (unfinished()) {
        rest_.store(kActive, std::memory_order_seq_cst);
      } else {
        while (rest_.load() == kParked)
          linux_driver::futex_wait(rest_, kParked, 1'000'000'000u);
      }
      last_unfinished = now_ns();
    }
  }
}

void ProgressThread::work(std::uint32_t polls) {
  auto poll = [this] {
    // Who looks all the time is no visitor, each of whose visits interrupts the lock's owner.
    engine_.device_desk_.streams_awaited() ? engine_.mutex_.lock()
                                           : engine_.mutex_.lock_as_visitor();
    const unsigned count = engine_.poll();
    engine_.mutex_.unlock();
    engine_.device_desk_.run(false);
    return count;
  };
  // What devices do the program's own thread goes on with, as long as it posts more.
  auto needed = [&] {
    return unfinished() && !stopping_.load(std::memory_order_relaxed) &&
           (nobody_polls(polls) ||
            (engine_.protocol_.background_count() != 0 && !engine_.device_desk_.has_work()));
  };
  std::uint64_t idle_since = now_ns();
  while (needed()) {
    if (poll() != 0) {
      idle_since = now_ns();
      continue;
    }
    const std::uint64_t idle_ns = now_ns() - idle_since;
    if (idle_ns < kIdlePollNs || engine_.device_desk_.nap_ns() == 0 ||
        (idle_ns < kStreamPollNs && engine_.device_desk_.streams_awaited())) {
      // What a stream waits for is a matter of a microsecond.
      const int pauses = engine_.device_desk_.streams_awaited() ? 3 : 100;
      for (int i = 0; i < pauses; ++i)
        cpu_relax();
      continue;
    }
    // While the program's own threads poll, only a transfer is worth a wake-up to their peers.
    const bool transfers_only = !nobody_polls(polls);
    engine_.mutex_.lock_as_visitor();
    engine_.before_sleep(true);
    engine_.mutex_.unlock();
    const std::uint32_t ticket = engine_.doorbell_->announce(transfers_only);
    engine_.barrier_.issue();
    if (poll() == 0 && needed()) {
      linux_driver::futex_wait(engine_.doorbell_->rung, ticket,
                               std::min(kSleepNs, engine_.device_desk_.nap_ns()));
    }
    engine_.doorbell_->retire(transfers_only);
    polls = transfers_only ? engine_.polls_.load(std::memory_order_relaxed) : polls;
    idle_since = now_ns();
  }
}

}  // namespace mooncake_mpi
