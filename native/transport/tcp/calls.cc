// Calls to other processes: at several of their addresses at once, the first that proves who it is
// wins. The lobby's lock is held.
#include <algorithm>

#include "transport/tcp/cipher_socket.h"
#include "transport/tcp/lobby.h"
#include "transport/tcp/lobby_parts.h"

namespace mooncake_mpi::tcp {

namespace {

constexpr std::uint64_t kStaggerNs = 50 * kMillisecond;
constexpr std::uint64_t kFirstPauseNs = 10 * kMillisecond;
constexpr std::uint64_t kLastPauseNs = 1000 * kMillisecond;
constexpr std::uint64_t kDeclinedNs = 1000 * kMillisecond;
constexpr std::uint64_t kPatientNs = 1000 * kMillisecond;

}  // namespace

void Lobby::start_visit(Call& call, const Key& key, std::uint64_t now) {
  const Endpoint place = call.places[call.next_place];
  std::string& trouble = call.troubles[call.next_place];
  call.next_ns = now + kStaggerNs;
  if (++call.next_place == call.places.size()) {
    call.next_place = 0;
    call.pause_ns = std::clamp(2 * call.pause_ns, kFirstPauseNs, kLastPauseNs);
    call.next_ns = now + call.pause_ns;
  }
  const auto is_there = [&](const auto& visit) { return visit->place == place; };
  if (std::ranges::any_of(call.visits, is_there)) return;
  int error = 0;
  std::unique_ptr<Socket> socket = network_->connect(place, error);
  if (socket == nullptr) {
    trouble = words_for(error);
    if (is_shortage(error)) {
      call.next_ns = now + kShortageNs;
    } else if (call.next_place != 0) {
      call.next_ns = now;
    }
    return;
  }
  wire::Identity self = self_;
  self.number |= key.second;
  auto visit =
      std::make_unique<Visit>(std::move(socket), wire::Handshake::connecting(self, call.peer));
  visit->id = kFirstVisit + next_id_++;
  visit->stage = Visit::Stage::kConnecting;
  visit->place = place;
  visit->since_ns = now;
  wait_for_events(*visit);
  call.visits.push_back(std::move(visit));
}

Lobby::Step Lobby::advance(Call& call, const Key& key, Visit& visit, std::uint64_t now) {
  const auto at =
      static_cast<std::size_t>(std::ranges::find(call.places, visit.place) - call.places.begin());
  if (visit.stage == Visit::Stage::kConnecting) {
    const int error = visit.socket->connect_status();
    if (error == EINPROGRESS) return Step::kWaits;
    if (error != 0) {
      call.troubles[at] = words_for(error);
      return Step::kOver;
    }
    visit.stage = Visit::Stage::kHandshake;
    call.troubles[at].clear();
  }
  const bool claimed = visit.stage == Visit::Stage::kClaiming;
  const Step step =
      claimed ? take_verdict(call, key, visit, now) : advance_handshake(call, key, visit, now);
  if (step == Step::kOver && no_tls_ && encrypts(visit)) {
    call.troubles[at] = "who answers there encrypts (MOONCAKE_MPI_TLS=1), and here is no OpenSSL 3";
  }
  if (step == Step::kOver && call.troubles[at].empty()) {
    call.troubles[at] = visit.handshake.state() == wire::Handshake::State::kRefused
                            ? std::string("who answers there ") + visit.handshake.refusal()
                            : "who answers there hangs up";
  }
  return step;
}

Lobby::Step Lobby::advance_handshake(Call& call, const Key& key, Visit& visit, std::uint64_t now) {
  for (;;) {
    std::size_t used = 0;
    wire::Handshake& handshake = visit.handshake;
    const auto state = handshake.received(std::span(visit.in).first(visit.in_bytes), used);
    if (used < visit.in_bytes) return Step::kOver;  // nothing is said before a claim
    visit.in_bytes = 0;
    const int error = say(*visit.socket, handshake);
    if (error != 0 && error != EAGAIN) return Step::kOver;
    if (state == wire::Handshake::State::kRefused) {
      if (handshake.may_be_repeated()) call.answered_ns = now;
      return Step::kOver;
    }
    if (state == wire::Handshake::State::kDone) {
      if (encrypts(visit) && !can_encrypt()) return Step::kOver;
      return call.claimed ? Step::kOver : claim(call, key, visit);
    }
    const iovec room = room_of(visit.in.data(), visit.in.size());
    const ssize_t received = visit.socket->receive(std::span(&room, 1));
    if (received == -EAGAIN) {
      wait_for_events(visit);
      return Step::kWaits;
    }
    if (received <= 0) return Step::kOver;
    visit.in_bytes = static_cast<std::size_t>(received);
  }
}

// It is this place; the others are hung up on.
Lobby::Step Lobby::claim(Call& call, const Key& key, Visit& visit) {
  wire::TcpClaim claim;
  claim.stream = key.second;
  if (say(*visit.socket, visit.handshake) != 0 ||
      !send_all(*visit.socket, wire::raw_bytes(claim))) {
    return Step::kOver;
  }
  visit.stage = Visit::Stage::kClaiming;
  call.claimed = true;
  std::erase_if(call.visits, [&](const auto& other) { return other.get() != &visit; });
  wait_for_events(visit);
  return Step::kWaits;
}

Lobby::Step Lobby::take_verdict(Call& call, const Key& key, Visit& visit, std::uint64_t now) {
  const std::size_t left = sizeof(wire::TcpVerdict) - visit.in_bytes;
  const iovec room = room_of(visit.in.data() + visit.in_bytes, left);
  const ssize_t received = visit.socket->receive(std::span(&room, 1));
  if (received == -EAGAIN) return Step::kWaits;
  if (received > 0) {
    visit.in_bytes += static_cast<std::size_t>(received);
    if (visit.in_bytes < sizeof(wire::TcpVerdict)) return Step::kWaits;
    const auto verdict = wire::decode_tcp_verdict(std::span(visit.in).first(visit.in_bytes));
    if (verdict && verdict->granted == wire::TcpVerdict::kGranted) {
      arrive(key, true, visit);
      return Step::kAgreed;
    }
    if (verdict && verdict->granted == wire::TcpVerdict::kCannotEncrypt) {
      const auto at = std::ranges::find(call.places, visit.place) - call.places.begin();
      call.troubles[static_cast<std::size_t>(at)] =
          "who answers there has no OpenSSL 3, and one of both sides wants MOONCAKE_MPI_TLS=1";
    } else {
      call.answered_ns = now;
    }
  }
  // Its own connection is on its way; if that fails, it is called again.
  call.claimed = false;
  call.next_place = 0;
  call.next_ns = now + kDeclinedNs;
  next_sweep_ns_ = std::min(next_sweep_ns_, call.next_ns);
  return Step::kOver;
}

void Lobby::sweep_call(Call& call, const Key& key, std::uint64_t now) {
  if (call.began_ns == 0) call.began_ns = call.answered_ns = now;
  const bool patient = std::ranges::any_of(
      call.visits, [&](const auto& visit) { return now - visit->since_ns >= kPatientNs; });
  if (patient) call.answered_ns = now;
  if (now - call.began_ns >= config_.timeout_ns || now - call.answered_ns >= config_.refused_ns) {
    give_up(call, key);
    return;
  }
  if (!call.claimed) {
    while (now >= call.next_ns && !call.places.empty())
      start_visit(call, key, now);
    next_sweep_ns_ = std::min(next_sweep_ns_, std::max(call.next_ns, now + kMillisecond));
  }
  next_sweep_ns_ = std::min(next_sweep_ns_, now + kLastPauseNs);
}

// Without a connection for packets the process is lost, without another one for large messages
// nothing is.
void Lobby::give_up(const Call& call, const Key& key) {
  if (key.second == wire::kTcpPackets) {
    std::string reason = "no connection";
    for (std::size_t i = 0; i < call.places.size(); ++i) {
      reason += (i == 0 ? " to " : "; ") + to_string(call.places[i]) + ": " +
                (call.troubles[i].empty() ? "no answer" : call.troubles[i]);
    }
    losses_.push_back({key.first, std::move(reason)});
    has_news_.store(true, std::memory_order_release);
  }
  calls_.erase(Key(key));
}

}  // namespace mooncake_mpi::tcp
