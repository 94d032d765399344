// What the engine does when a process ends and when a communicator is revoked. The public calls
// take the engine's lock, the private ones are called with it held, and the watch thread takes it
// as a visitor.
#include "engine/failure.h"

#include <unistd.h>

#include "drivers/linux/process_status.h"
#include "engine/engine.h"
#include "transport/gone_channel.h"

namespace mooncake_mpi {

bool has_ended(const wire::Address& process) {
  return linux_driver::process_has_ended(process.pid, process.start_time);
}

bool Engine::in_own_process() const noexcept {
  return getpid() == own_address_.pid;
}

void Engine::before_fork() {
  mutex_.lock_as_visitor();
  for (const auto& lane : lanes_)
    lane->before_fork();
}

void Engine::after_fork_in_parent() {
  for (const auto& lane : lanes_)
    lane->after_fork_in_parent();
  mutex_.unlock();
}

// What the lanes hold is shared with the parent: it is not used, and given back only where the
// parent's peers would wait for that.
void Engine::after_fork_in_child() noexcept {
  for (auto& lane : lanes_) {
    lane->after_fork_in_child();
    static_cast<void>(lane.release());
  }
  lanes_.clear();
  polled_.clear();
  own_doorbell_.ringers_fence.store(doorbell_->ringers_fence.load());
  doorbell_ = &own_doorbell_;
  waits_.set_board(nullptr);
  protocol_.set_doorbell(doorbell_);
  protocol_.leave_behind();
  peers_.for_each([](Peer& peer) {
    for (auto& mover : peer.movers)
      static_cast<void>(mover.release());
    peer.movers.clear();
    static_cast<void>(peer.channel.release());
    peer.channel = std::make_unique<GoneChannel>();
    peer.lane = kGoneLane;
    peer.failure = Error::kProcessFailed;
  });
  mutex_.unlock();
}

// Watched from the moment a communicator names it: a receive may wait for a process that never
// sends anything.
void Engine::watch(Peer& peer) {
  if (peer.address.uid == process_ || peer.address.host != own_address_.host) return;
  watched_.push_back(&peer);
  if (!watch_thread_.add(peer.address.pid, peer.address.start_time, watched_.size() - 1)) {
    fail(peer, Error::kProcessFailed);
  }
}

// Watch thread.
void Engine::on_process_end(std::uint64_t token) {
  mutex_.lock_as_visitor();
  if (token < watched_.size()) fail(*watched_[token], Error::kProcessFailed);
  mutex_.unlock();
  doorbell_->wake();
}

void Engine::fail(Peer& peer, Error error) {
  if (peer.failure != Error::kNone) return;
  for (const auto& lane : lanes_)
    lane->drain(peer, *this);
  protocol_.fail_peer(peer, error);
  for (const auto& lane : lanes_)
    lane->forget(peer);
  peer.movers.clear();
  peer.channel = std::make_unique<GoneChannel>();
  peer.lane = kGoneLane;
  last_failure_ns_ = now_ns();
  choose_policy();
}

Engine::Failures Engine::failures(Context& context) {
  progress();
  std::lock_guard lock(mutex_);
  return {context.failed, context.acknowledged};
}

std::size_t Engine::acknowledge(Context& context, std::size_t count) {
  std::lock_guard lock(mutex_);
  return protocol_.acknowledge(context, count);
}

void Engine::revoke(Context& context) {
  {
    std::lock_guard lock(mutex_);
    if (context.revoked) return;
    protocol_.revoke(context);
    spread_revocation(context);
  }
  leave(nullptr);
}

bool Engine::revoked(Context& context) {
  progress();
  std::lock_guard lock(mutex_);
  return context.revoked;
}

// To every member, by every member that hears of it for the first time: so all living ones hear of
// it if one does, even when the first to tell dies in the middle.
void Engine::spread_revocation(Context& context) {
  for (std::int32_t rank = 0; rank < context.size; ++rank) {
    const Context::Member& member = context.members[static_cast<std::size_t>(rank)];
    Peer& peer = protocol_.peer_of(context, rank);
    if (peer.address.uid == process_ || peer.failure != Error::kNone) continue;
    if (peer.channel == nullptr && !connect(peer).ok()) continue;
    protocol_.send_notice(context, member, MatchChannel::kAgreements, kRevocationTag);
  }
}

}  // namespace mooncake_mpi
