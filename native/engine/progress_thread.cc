#include "engine/progress_thread.h"

#include <pthread.h>
#include <signal.h>

#include "base/clock.h"
#include "drivers/linux/futex.h"
#include "engine/engine.h"

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kDrowsyNs = 50'000'000;
constexpr std::uint64_t kLookEveryNs = 1'000'000;
constexpr std::uint64_t kIdlePollNs = 20'000;

}  // namespace

void ProgressThread::unpark() {
  std::lock_guard lock(mutex_);
  if (!thread_.joinable()) {
    stopping_.store(false);
    // Signals are for the program's own threads.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  parked_.store(0, std::memory_order_seq_cst);
  linux_driver::futex_wake_all(parked_);
}

void ProgressThread::stop() {
  std::lock_guard lock(mutex_);
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_seq_cst);
  parked_.store(0, std::memory_order_seq_cst);
  linux_driver::futex_wake_all(parked_);
  engine_.doorbell_->wake();
  thread_.join();
  thread_ = std::thread();
  parked_.store(1, std::memory_order_seq_cst);
}

bool ProgressThread::needed() const noexcept {
  return engine_.protocol_.background_count() != 0 &&
         engine_.waiters_.load(std::memory_order_seq_cst) == 0;
}

void ProgressThread::run() {
  std::uint64_t last_needed = now_ns();
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (needed()) {
      work();
      last_needed = now_ns();
    } else if (now_ns() - last_needed < kDrowsyNs) {
      linux_driver::futex_wait(parked_, 0, kLookEveryNs);
    } else {
      parked_.store(1, std::memory_order_seq_cst);
      // Whoever counted an operation, or stopped waiting, before it could see `parked_` set is seen
      // here; anyone later unparks.
      if (needed()) {
        parked_.store(0, std::memory_order_seq_cst);
        last_needed = now_ns();
        continue;
      }
      while (parked_.load() != 0)
        linux_driver::futex_wait(parked_, 1, 1'000'000'000u);
      last_needed = now_ns();
    }
  }
}

void ProgressThread::work() {
  auto poll = [this] {
    engine_.mutex_.lock_as_visitor();
    const unsigned count = engine_.poll();
    engine_.mutex_.unlock();
    return count;
  };
  std::uint64_t idle_since = now_ns();
  while (needed() && !stopping_.load(std::memory_order_relaxed)) {
    if (poll() != 0) {
      idle_since = now_ns();
      continue;
    }
    if (now_ns() - idle_since < kIdlePollNs) {
      for (int i = 0; i < 100; ++i)
        cpu_relax();
      continue;
    }
    const std::uint32_t ticket = engine_.doorbell_->announce(true);
    engine_.barrier_.issue();
    if (poll() == 0) linux_driver::futex_wait(engine_.doorbell_->rung, ticket, 10'000'000u);
    engine_.doorbell_->retire(true);
    idle_since = now_ns();
  }
}

}  // namespace mooncake_mpi
