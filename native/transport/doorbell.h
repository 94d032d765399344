#pragma once

#include <atomic>
#include <cstdint>

#include "drivers/linux/futex.h"

namespace mooncake_mpi {

// What a process sleeps on when it has nothing to do; in memory that its peers map.
//
// Sleeper: announce(); a global barrier; look once more for work; futex on the value that
// announce() returned; retire(). Ringer: publish the work, then ring(). The sleeper's barrier
// stands in for the store-load fence that the ringer would need, so that ring() costs one load
// while nobody sleeps. If the sleeper could not register for barriers it says so (`ringers_fence`).
struct alignas(64) Doorbell {
  std::atomic<std::uint32_t> sleepers{0};
  // A progress thread that sleeps wants to hear of transfers, not of every small message.
  std::atomic<std::uint32_t> transfer_sleepers{0};
  std::atomic<std::uint32_t> ringers_fence{0};
  alignas(64) std::atomic<std::uint32_t> rung{0};
  // A hint, of its own line since it changes with every wait: a thread of the process waits in a
  // call and is awake, so that what a peer asks for is done at once.
  alignas(64) std::atomic<std::uint32_t> attended{0};

  std::uint32_t announce(bool transfers_only = false) noexcept {
    std::uint32_t ticket = rung.load(std::memory_order_acquire);
    (transfers_only ? transfer_sleepers : sleepers).fetch_add(1, std::memory_order_seq_cst);
    return ticket;
  }
  void retire(bool transfers_only = false) noexcept {
    (transfers_only ? transfer_sleepers : sleepers).fetch_sub(1, std::memory_order_release);
  }

  void ring(bool transfer = false) noexcept {
    if (ringers_fence.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      std::atomic_thread_fence(std::memory_order_seq_cst);
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    if (sleepers.load(std::memory_order_relaxed) != 0 ||
        (transfer && transfer_sleepers.load(std::memory_order_relaxed) != 0)) [[unlikely]] {
      wake();
    }
  }

  void wake() noexcept {
    rung.fetch_add(1, std::memory_order_release);
    linux_driver::futex_wake_all(rung);
  }
};

}  // namespace mooncake_mpi
