// Those who call: let in for a while, until they have proved who they are and said what for. The
// lobby's lock is held.
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/sha256.h"
#include "transport/tcp/cipher_socket.h"
#include "transport/tcp/lobby.h"
#include "transport/tcp/lobby_parts.h"

namespace mooncake_mpi::tcp {

namespace {

constexpr std::uint64_t kCrowdNs = 100 * kMillisecond;  // what a guest gets at least
constexpr int kAcceptsAtOnce = 16;

}  // namespace

void Lobby::accept_some(std::size_t door, std::uint64_t now) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    if (guests_.size() == kMostGuests) {
      // Whoever belongs here needs no more time than that; the others wait at the door.
      const std::uint64_t oldest = guests_.front()->since_ns;
      if (now - oldest < kCrowdNs) {
        close_doors(oldest + kCrowdNs);
        return;
      }
      guests_.erase(guests_.begin());
    }
    int error = 0;
    std::unique_ptr<Socket> socket = listeners_[door]->accept(error);
    if (socket == nullptr) {
      if (is_shortage(error)) close_doors(now + kShortageNs);
      if (error == EAGAIN || is_shortage(error)) return;
      continue;  // who called has hung up
    }
    auto guest = std::make_unique<Visit>(
        std::move(socket),
        wire::Handshake::accepting(self_, [this](const wire::Uid& uid) { return secret_of(uid); }));
    guest->id = kFirstVisit + next_id_++;
    guest->since_ns = now;
    guests_.push_back(std::move(guest));
    next_sweep_ns_ = std::min(next_sweep_ns_, now + kGuestNs);
    if (advance_guest(*guests_.back()) != Step::kWaits) guests_.pop_back();
  }
}

void Lobby::close_doors(std::uint64_t until_ns) noexcept {
  doors_closed_until_ns_ = until_ns;
  next_sweep_ns_ = std::min(next_sweep_ns_, until_ns);
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    doors_.change(listeners_[i]->descriptor(), 0, i);
}

void Lobby::open_doors() noexcept {
  doors_closed_until_ns_ = 0;
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    doors_.change(listeners_[i]->descriptor(), EPOLLIN, i);
}

void Lobby::wait_for_events(Visit& visit) {
  const bool sends = visit.stage == Visit::Stage::kConnecting || !visit.handshake.to_send().empty();
  const std::uint32_t events = sends ? EPOLLIN | EPOLLOUT : EPOLLIN;
  if (events == visit.events) return;
  if (visit.events == 0) {
    doors_.add(visit.socket->descriptor(), events, visit.id);
  } else {
    doors_.change(visit.socket->descriptor(), events, visit.id);
  }
  visit.events = events;
}

Lobby::Step Lobby::advance_guest(Visit& visit) {
  for (;;) {
    std::size_t used = 0;
    wire::Handshake& handshake = visit.handshake;
    const auto state = handshake.state() == wire::Handshake::State::kGoesOn
                           ? handshake.received(std::span(visit.in).first(visit.in_bytes), used)
                           : handshake.state();
    std::memmove(visit.in.data(), visit.in.data() + used, visit.in_bytes - used);
    visit.in_bytes -= used;
    const int error = say(*visit.socket, handshake);
    if (error != 0 && error != EAGAIN) return Step::kOver;
    if (state == wire::Handshake::State::kRefused) {
      if (!handshake.may_be_repeated()) tell_of(visit);
      return Step::kOver;
    }
    if (state == wire::Handshake::State::kDone && visit.in_bytes >= sizeof(wire::TcpClaim)) {
      return answer_claim(visit);
    }
    const iovec room = room_of(visit.in.data() + visit.in_bytes, visit.in.size() - visit.in_bytes);
    const ssize_t received = visit.socket->receive(std::span(&room, 1));
    if (received == -EAGAIN) {
      wait_for_events(visit);
      return Step::kWaits;
    }
    if (received <= 0) return Step::kOver;
    visit.in_bytes += static_cast<std::size_t>(received);
  }
}

// One line for the first stranger, so that whoever looks for the reason finds it; no more, so that
// nobody fills the log.
void Lobby::tell_of(const Visit& visit) {
  if (std::exchange(told_of_stranger_, true)) return;
  std::string line = "mooncake_mpi: process " + std::to_string(getpid()) + " refused a call from " +
                     to_string(visit.socket->remote()) + ": who calls " +
                     visit.handshake.refusal() + ". No other stranger is told of.\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

Lobby::Step Lobby::answer_claim(Visit& visit) {
  const auto claim = wire::decode_tcp_claim(std::span(visit.in).first(visit.in_bytes));
  if (!claim || claim->stream != (visit.handshake.peer_number() & ~kEncrypts)) return Step::kOver;
  const Key key{visit.handshake.peer(), claim->stream};
  wire::TcpVerdict verdict;
  if (encrypts(visit) && !can_encrypt()) {
    verdict.granted = wire::TcpVerdict::kCannotEncrypt;
  } else if (grants(key.first, key.second)) {
    verdict.granted = wire::TcpVerdict::kGranted;
  }
  if (!send_all(*visit.socket, wire::raw_bytes(verdict)) ||
      verdict.granted != wire::TcpVerdict::kGranted) {
    return Step::kOver;
  }
  calls_.erase(key);
  arrive(key, false, visit);
  return Step::kOver;
}

std::optional<wire::Secret> Lobby::secret_of(const ProcessId& process) const {
  if (forgotten_.contains(process)) return std::nullopt;
  if (knows_ != nullptr) return knows_(process);
  const auto found = expected_.find(process);
  return found != expected_.end() ? std::optional(found->second) : std::nullopt;
}

// Of two connections for the same, that which the process with the smaller id has called for stays,
// once it has claimed it: who grants one claims none any more.
bool Lobby::grants(const ProcessId& process, std::uint32_t stream) const {
  if (!secret_of(process)) return false;
  const auto agreed = agreed_.find(process);
  if (agreed != agreed_.end() && (agreed->second & 1u << stream) != 0) return false;
  const auto call = calls_.find({process, stream});
  return call == calls_.end() || !call->second.claimed || process < self_.uid;
}

// Either side may ask for it.
bool Lobby::encrypts(const Visit& visit) const noexcept {
  return config_.encrypts || (visit.handshake.peer_number() & kEncrypts) != 0;
}

bool Lobby::can_encrypt() noexcept {
  if (tls_ != nullptr || no_tls_) return !no_tls_;
  try {
    auto tls = openssl_driver::Tls::load(config_.tls_library);
    no_tls_ = !tls.ok();
    if (tls) tls_ = std::move(tls).value();
  } catch (const std::bad_alloc&) {  // the next connection asks again
    return false;
  }
  return !no_tls_;
}

// With a key that only this connection has, though all others of the two come from the same.
std::shared_ptr<Socket> Lobby::finished(Visit& visit, bool called) {
  if (!encrypts(visit)) return std::move(visit.socket);
  wire::Key key = visit.handshake.session_key();
  auto cipher = called ? tls_->connecting(key) : tls_->accepting(key);
  wipe(key);
  if (cipher) return std::make_shared<CipherSocket>(visit.socket, std::move(cipher).value());
  visit.socket->cut();  // which both sides see
  return std::move(visit.socket);
}

void Lobby::arrive(const Key& key, bool called, Visit& visit) {
  if (visit.events != 0) doors_.remove(visit.socket->descriptor());
  agreed_[key.first] |= 1u << key.second;
  visit.socket->keep_alive(config_.timeout_ns);
  arrivals_.push_back({key.first, key.second, called, finished(visit, called)});
  has_news_.store(true, std::memory_order_release);
}

}  // namespace mooncake_mpi::tcp
