#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "drivers/linux/membarrier.h"
#include "transport/doorbell.h"

namespace mooncake_mpi {

// How a thread waits: it polls for a while, gives its core to others for a while, then sleeps on
// the doorbell. With more processes than cores it hardly polls at all.
struct WaitPolicy {
  std::uint64_t spin_ns;
  std::uint64_t yield_ns;
};

enum class WaitResult : std::uint8_t { kDone, kTimeout, kInterrupted };

// Polls without ever sleeping. A turn that did something counts for many: what takes long is not
// for here.
template <class Done, class Progress>
bool poll_until(Done&& done, Progress&& progress, unsigned turns) {
  constexpr unsigned kTurnsOfWork = 8;
  for (unsigned turn = 0; turn < turns; ++turn) {
    turn += kTurnsOfWork * progress();
    if (done()) return true;
    cpu_relax();
  }
  return false;
}

// Polls `progress()` (work done, 0 = idle) until `done()`, for at most `timeout_ns`. Before it
// sleeps `before_sleep(true)` is called, afterwards `before_sleep(false)`. Returns kInterrupted
// when a signal arrived while it slept. It sleeps for nap_ns() at most, and not while that is zero.
// Called `again` after a wait that ended without any result,
// it sleeps on, instead of polling as long as the first time. `done()` is not asked again after it
// has said yes: it may take what it finds.
template <class Done, class Progress, class Nap, class BeforeSleep>
WaitResult wait_for(Doorbell& doorbell, const linux_driver::GlobalBarrier& barrier,
                    const WaitPolicy& policy, std::uint64_t timeout_ns, bool again, Done&& done,
                    Progress&& progress, Nap&& nap_ns, BeforeSleep&& before_sleep) {
  if (done()) return WaitResult::kDone;
  const std::uint64_t start = now_ns();
  std::uint64_t idle_since = again ? 0 : start;
  for (std::uint32_t turn = 1;; ++turn) {
    const bool worked = progress() != 0;
    if (done()) return WaitResult::kDone;
    if (turn % 64 != 0 && !worked) {
      cpu_relax();
      continue;
    }
    const std::uint64_t now = now_ns();
    if (now - start >= timeout_ns) return WaitResult::kTimeout;
    if (worked) {
      idle_since = now;
    } else if (now - idle_since >= policy.spin_ns + policy.yield_ns && nap_ns() != 0) {
      before_sleep(true);
      const std::uint32_t ticket = doorbell.announce();
      barrier.issue();
      const bool work_came = progress() != 0;
      const bool is_done = done();
      int rc = 0;
      if (!work_came && !is_done)
        rc = linux_driver::futex_wait(doorbell.rung, ticket,
                                      std::min(timeout_ns - (now - start), nap_ns()));
      doorbell.retire();
      before_sleep(false);
      if (is_done) return WaitResult::kDone;
      if (progress() != 0 || work_came) idle_since = now_ns();
      if (done()) return WaitResult::kDone;
      if (rc == EINTR) return WaitResult::kInterrupted;
    } else if (now - idle_since >= policy.spin_ns) {
      // Every turn of the yield phase is one look and one sched_yield.
      sched_yield();
      turn = 63;
    }
  }
}

}  // namespace mooncake_mpi
