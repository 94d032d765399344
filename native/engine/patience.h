// How long threads that wait poll before they give their core to others, and then before they
// sleep. Chosen with the engine's lock held, read by any thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

#include "engine/peers.h"
#include "engine/waiter.h"

namespace mooncake_mpi {

class Patience {
 public:
  // Both outlive it. `spin_ns`: what the settings say.
  Patience(const Peers& peers, const Peers::Lanes& lanes, std::uint64_t spin_ns) noexcept
      : peers_(peers), lanes_(lanes), longest_spin_ns_(spin_ns) {}

  // By the processes of this node, `own` among them, and by the lanes in use.
  void choose(pid_t own);
  // By the lanes alone, where those may have changed.
  void choose_yield() noexcept;
  // Whether it was chosen so long ago that processes may have been moved to other cores.
  bool is_old() const noexcept;

  WaitPolicy policy() const noexcept {
    return {spin_ns_.load(std::memory_order_relaxed), yield_ns_.load(std::memory_order_relaxed)};
  }
  // More processes than cores.
  bool crowded() const noexcept { return crowded_.load(std::memory_order_relaxed); }

 private:
  const Peers& peers_;
  const Peers::Lanes& lanes_;
  const std::uint64_t longest_spin_ns_;
  std::uint64_t chosen_ns_ = 0;
  std::atomic<std::uint64_t> spin_ns_{0};
  std::atomic<std::uint64_t> yield_ns_{0};
  std::atomic<bool> crowded_{false};
};

}  // namespace mooncake_mpi
