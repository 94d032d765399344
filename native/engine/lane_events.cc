// What the lanes and their threads tell the engine, and ask it. Engine lock held, but for wake()
// and poll_now(), which any thread calls.
#include "engine/engine.h"

namespace mooncake_mpi {

Peer* Engine::on_connect(const ProcessId& process) {
  Peer* peer = peers_.answer(process);
  if (peer != nullptr) choose_patience();
  return peer;
}

std::optional<wire::Secret> Engine::secret_of(const ProcessId& process) {
  return peers_.secret_of(process);
}

std::optional<wire::Secret> Engine::secret_known_of(const ProcessId& process) const {
  return peers_.book().secret_known_of(process);
}

bool Engine::refuses(const ProcessId& process) {
  return peers_.refuses(process);
}

std::uint64_t Engine::bytes_sent(const Peer& peer) const noexcept {
  return peer.transfers.bytes_sent();
}

void Engine::send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note) {
  protocol_.send_note(peer, lane, id, note);
}

void Engine::on_detour(Peer& peer, std::uint64_t bytes, std::string_view reason) noexcept {
  ways_.on_detour(peer, bytes, reason);
}

void Engine::on_failure(Peer& peer, const std::string& reason) {
  peer.unreachable = reason;
  fail(peer, Error::kPathLost);
}

void Engine::wake() {
  doorbell_->wake();
}

void Engine::poll_now() {
  mutex_.lock_as_visitor();
  poll();
  mutex_.unlock();
}

}  // namespace mooncake_mpi
