// The end of a process: what it has sent is delivered for as long as the receivers live.
#include "engine/engine.h"

namespace mooncake_mpi {

void Engine::refuse_messages() {
  std::lock_guard lock(mutex_);
  protocol_.refuse_messages();
}

// Engine lock held. A receive that has matched counts, too: its sender waits for the answer.
bool Engine::all_delivered() {
  if (!protocol_.outbox_empty()) return false;
  bool under_way = false;
  protocol_.operations().for_each_live([&](const Operation& operation) {
    under_way |= operation.stage != Operation::Stage::kDone &&
                 operation.stage != Operation::Stage::kPosted &&
                 operation.undeliverable_since_ns == 0;
  });
  for (const auto& lane : lanes_)
    under_way |= !lane->drained();
  return !under_way;
}

void Engine::fail_undeliverable() {
  std::lock_guard lock(mutex_);
  protocol_.fail_undeliverable();
}

WaitResult Engine::deliver(std::uint64_t timeout_ns, bool again) {
  return wait(
      [this] {
        std::lock_guard lock(mutex_);
        return all_delivered();
      },
      timeout_ns, again);
}

// The progress thread stays: it tells senders that come late that nobody receives here any more.
void Engine::end() {
  watch_thread_.stop();
  for (const auto& lane : lanes_)
    lane->stop();
  answering_.store(true, std::memory_order_seq_cst);
  progress_thread_.hurry();
}

}  // namespace mooncake_mpi
