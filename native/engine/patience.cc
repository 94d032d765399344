#include "engine/patience.h"

#include <algorithm>

#include "base/clock.h"
#include "drivers/linux/cores.h"

namespace mooncake_mpi {

// Processes of this node that share our cores decide how long it pays to poll: not those that
// launchers have pinned to others.
void Patience::choose(pid_t own) {
  constexpr std::uint64_t kCrowdedSpinNs = 1'000;
  const linux_driver::CoreSet cores(0);
  int processes = 0;
  peers_.for_each([&](const Peer& peer) {
    if (!peers_.is_near(peer) || peer.failure != Error::kNone) return;
    processes +=
        peer.address.pid == own || linux_driver::CoreSet(peer.address.pid).shares_any(cores);
  });
  const bool crowded = processes > cores.count();
  chosen_ns_ = now_ns();
  crowded_.store(crowded, std::memory_order_relaxed);
  spin_ns_.store(crowded ? kCrowdedSpinNs : longest_spin_ns_, std::memory_order_relaxed);
  choose_yield();
}

// Who gives its core away at every turn may wait longer for an answer of another host; not where
// there are more processes than cores, which would pass the core around among them.
void Patience::choose_yield() noexcept {
  std::uint64_t yield_ns = crowded() ? 500'000 : 200'000;
  for (const auto& lane : lanes_) {
    if (!crowded()) yield_ns = std::max(yield_ns, lane->patience_ns());
  }
  yield_ns_.store(yield_ns, std::memory_order_relaxed);
}

bool Patience::is_old() const noexcept {
  constexpr std::uint64_t kMovedNs = 1'000'000'000;  // by the program or by others
  return now_ns() - chosen_ns_ > kMovedNs;
}

}  // namespace mooncake_mpi
