// Ports, calls and guests, up to a connection that both sides want. Its lock is held for every
// private function.
#include "transport/tcp/lobby.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "base/sha256.h"
#include "transport/tcp/cipher_socket.h"

namespace mooncake_mpi::tcp {

using linux_driver::Network;

namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kGuestNs = 2000 * kMillisecond;
constexpr std::uint64_t kCrowdNs = 100 * kMillisecond;  // what a guest gets at least
constexpr std::uint64_t kShortageNs = 100 * kMillisecond;
constexpr std::uint64_t kStaggerNs = 50 * kMillisecond;
constexpr std::uint64_t kFirstPauseNs = 10 * kMillisecond;
constexpr std::uint64_t kLastPauseNs = 1000 * kMillisecond;
constexpr std::uint64_t kDeclinedNs = 1000 * kMillisecond;
constexpr std::uint64_t kPatientNs = 1000 * kMillisecond;
constexpr int kAcceptsAtOnce = 16;
constexpr std::uint64_t kFirstVisit = 1 << 16;  // smaller tags are doors

iovec piece(std::byte* data, std::size_t bytes) noexcept {
  return {data, bytes};
}

// Sends what is left of `bytes`; how much went, or an errno below zero.
ssize_t send_some(Socket& socket, std::span<const std::byte> bytes) noexcept {
  const iovec one = piece(const_cast<std::byte*>(bytes.data()), bytes.size());
  return socket.send(std::span(&one, 1));
}

// A few bytes on a connection that has room for them, or is none.
bool send_all(Socket& socket, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t sent = send_some(socket, bytes);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string words_for(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "refused: nobody listens there, or a firewall says so";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "no route to it";
    case ETIMEDOUT:
      return "no answer: another network, or a firewall drops it";
    case EMFILE:
    case ENFILE:
      return "no descriptors left (ulimit -n)";
    default:
      return std::strerror(error);
  }
}

wire::Identity identity_of(const wire::Address& address) {
  wire::Identity identity;
  identity.uid = address.uid;
  std::ranges::copy(address.job_secret, identity.secret.begin());
  return identity;
}

// In the number that each side gives a connection, and proves, beside that of the stream: it wants
// the connection encrypted.
constexpr std::uint64_t kEncrypts = std::uint64_t{1} << 32;

wire::Identity identity_of(const wire::Address& address, const Config& config) {
  wire::Identity identity = identity_of(address);
  if (config.encrypts) identity.number = kEncrypts;
  return identity;
}

bool is_shortage(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

}  // namespace

Lobby::Lobby(const wire::Address& self, std::shared_ptr<Network> network, const Config& config)
    : self_(identity_of(self, config)), network_(std::move(network)), config_(config) {}

Lobby::~Lobby() = default;

Result<bool> Lobby::open() {
  if (!doors_.ok()) return Failure{Error::kOther, "no descriptors left (ulimit -n)"};
  if (config_.encrypts) {  // what was asked for is not left out
    auto tls = openssl_driver::Tls::load();
    if (!tls) return Failure{Error::kOther, "MOONCAKE_MPI_TLS=1: " + tls.failure().message};
    tls_ = std::move(tls).value();
  }
  reports_ = survey(network_->interfaces(), config_);
  if (reports_.empty() || !reports_.front().chosen) {
    return Failure{Error::kUnreachable, explain_none(reports_, config_)};
  }
  std::string trouble;
  for (AddressReport& report : reports_) {
    if (!report.chosen) continue;
    Endpoint endpoint{report.interface.address, config_.first_port};
    endpoint.address.scope = report.interface.index;
    int error = 0;
    std::unique_ptr<linux_driver::Listener> listener;
    for (std::uint32_t port = config_.first_port; port <= config_.last_port; ++port) {
      endpoint.port = static_cast<std::uint16_t>(port);
      listener = network_->bind(endpoint, error);
      if (listener != nullptr || error != EADDRINUSE) break;
    }
    if (listener != nullptr) {
      listeners_.push_back(std::move(listener));
      continue;
    }
    report.chosen = false;
    report.reason = error != EADDRINUSE || config_.first_port == 0
                        ? words_for(error)
                        : "no free port of " + std::to_string(config_.first_port) + "-" +
                              std::to_string(config_.last_port) + " (MOONCAKE_MPI_TCP_PORTS)";
    if (!trouble.empty()) trouble += "; ";
    trouble +=
        report.interface.name + " " + to_string(report.interface.address) + ": " + report.reason;
  }
  if (listeners_.empty()) return Failure{Error::kUnreachable, trouble};
  return true;
}

std::vector<Endpoint> Lobby::endpoints() const {
  const std::lock_guard lock(mutex_);
  std::vector<Endpoint> endpoints;
  for (const auto& listener : listeners_)
    endpoints.push_back(listener->endpoint());
  return endpoints;
}

void Lobby::listen() noexcept {
  listening_ = true;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    if (listeners_[i]->listen() != 0) continue;  // peers call at another address
    doors_.add(listeners_[i]->descriptor(), EPOLLIN, i);
  }
}

void Lobby::expect(const wire::Address& peer) {
  const std::lock_guard lock(mutex_);
  if (knows_ == nullptr) expected_[peer.uid] = identity_of(peer).secret;
  forgotten_.erase(peer.uid);
  if (!listening_) listen();
}

void Lobby::call(const wire::Address& peer, std::uint32_t stream) {
  const std::lock_guard lock(mutex_);
  const Key key{peer.uid, stream};
  if (knows_ == nullptr) expected_[peer.uid] = identity_of(peer).secret;
  forgotten_.erase(peer.uid);
  if (!listening_) listen();
  const auto agreed = agreed_.find(peer.uid);
  if (agreed != agreed_.end() && (agreed->second & 1u << stream) != 0) return;
  const auto [place, added] = calls_.try_emplace(key);
  if (!added) return;
  Call& call = place->second;
  call.peer = identity_of(peer);
  call.places = places_of(wire::decode_tcp_endpoints(peer.section(kLane)), reports_);
  call.troubles.resize(call.places.size());
  next_sweep_ns_ = 0;
}

void Lobby::forget(const ProcessId& process) {
  const std::lock_guard lock(mutex_);
  expected_.erase(process);
  forgotten_.insert(process);
  agreed_.erase(process);
  std::erase_if(calls_, [&](const auto& call) { return call.first.first == process; });
  std::erase_if(arrivals_, [&](const Arrival& one) { return one.process == process; });
  std::erase_if(losses_, [&](const Loss& one) { return one.process == process; });
  std::erase_if(watched_, [&](const Watched& one) { return one.process == process; });
}

void Lobby::look_after(const ProcessId& process, std::shared_ptr<Socket> socket) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({process, std::move(socket)});
  next_sweep_ns_ = 0;
}

std::vector<std::string> Lobby::troubles(const ProcessId& process) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> troubles;
  const auto found = calls_.find({process, wire::kTcpPackets});
  if (found == calls_.end()) return troubles;
  const Call& call = found->second;
  for (std::size_t i = 0; i < call.places.size(); ++i) {
    const bool none = call.troubles[i].empty();
    troubles.push_back(to_string(call.places[i]) + ": " + (none ? "no answer" : call.troubles[i]));
  }
  return troubles;
}

void Lobby::take_news(std::vector<Arrival>& arrivals, std::vector<Loss>& losses) {
  const std::lock_guard lock(mutex_);
  arrivals.reserve(arrivals.size() + arrivals_.size());
  losses.reserve(losses.size() + losses_.size());
  has_news_.store(false, std::memory_order_relaxed);
  std::ranges::move(arrivals_, std::back_inserter(arrivals));
  std::ranges::move(losses_, std::back_inserter(losses));
  arrivals_.clear();
  losses_.clear();
}

void Lobby::leave_behind() noexcept {
  for (auto& listener : listeners_)
    listener.reset();
  guests_.clear();
  calls_.clear();
  arrivals_.clear();
}

std::uint64_t Lobby::turn(std::uint64_t now) {
  const std::lock_guard lock(mutex_);
  std::array<epoll_event, 64> events;
  std::size_t count = doors_.wait(events, 0);
  for (std::size_t i = 0; i < count; ++i)
    on_event(events[i].data.u64, now);
  if (now >= next_sweep_ns_) sweep(now);
  return count == events.size() ? now : next_sweep_ns_;
}

void Lobby::on_event(std::uint64_t tag, std::uint64_t now) {
  if (tag < kFirstVisit) {
    accept_some(tag, now);
    return;
  }
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (guests_[i]->id != tag) continue;
    if (advance_guest(*guests_[i]) != Step::kWaits) {
      guests_.erase(guests_.begin() + static_cast<std::ptrdiff_t>(i));
      if (doors_closed_until_ns_ != 0) open_doors();
    }
    return;
  }
  for (auto& [key, call] : calls_) {
    for (auto& visit : call.visits) {
      if (visit->id != tag) continue;
      const Step step = advance(call, key, *visit, now);
      if (step == Step::kAgreed) {
        calls_.erase(Key(key));
      } else if (step == Step::kOver) {
        std::erase_if(call.visits, [tag](const auto& one) { return one->id == tag; });
        call.next_ns = std::min(call.next_ns, call.next_place != 0 ? now : UINT64_MAX);
        next_sweep_ns_ = std::min(next_sweep_ns_, call.next_ns);
      }
      return;
    }
  }
}

// --- guests ---

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

namespace {

// What the handshake has to say; zero, or an errno.
int say(Socket& socket, wire::Handshake& handshake) {
  while (!handshake.to_send().empty()) {
    const ssize_t sent = send_some(socket, handshake.to_send());
    if (sent < 0) return static_cast<int>(-sent);
    handshake.sent(static_cast<std::size_t>(sent));
  }
  return 0;
}

}  // namespace

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
    if (state == wire::Handshake::State::kRefused) return Step::kOver;
    if (state == wire::Handshake::State::kDone && visit.in_bytes >= sizeof(wire::TcpClaim)) {
      return answer_claim(visit);
    }
    const iovec room = piece(visit.in.data() + visit.in_bytes, visit.in.size() - visit.in_bytes);
    const ssize_t received = visit.socket->receive(std::span(&room, 1));
    if (received == -EAGAIN) {
      wait_for_events(visit);
      return Step::kWaits;
    }
    if (received <= 0) return Step::kOver;
    visit.in_bytes += static_cast<std::size_t>(received);
  }
}

Lobby::Step Lobby::answer_claim(Visit& visit) {
  const auto claim = wire::decode_tcp_claim(std::span(visit.in).first(visit.in_bytes));
  if (!claim || claim->stream != (visit.handshake.peer_number() & ~kEncrypts)) return Step::kOver;
  const Key key{visit.handshake.peer(), claim->stream};
  wire::TcpVerdict verdict;
  const bool possible = !encrypts(visit) || can_encrypt();
  verdict.granted = possible && grants(key.first, key.second) ? 1 : 0;
  if (!send_all(*visit.socket, wire::raw_bytes(verdict)) || verdict.granted == 0) {
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
    auto tls = openssl_driver::Tls::load();
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

// --- calls ---

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
      if (encrypts(visit) && !can_encrypt()) {
        return Step::kOver;
      }
      return call.claimed ? Step::kOver : claim(call, key, visit);
    }
    const iovec room = piece(visit.in.data(), visit.in.size());
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
  const iovec room = piece(visit.in.data() + visit.in_bytes, left);
  const ssize_t received = visit.socket->receive(std::span(&room, 1));
  if (received == -EAGAIN) return Step::kWaits;
  if (received > 0) {
    visit.in_bytes += static_cast<std::size_t>(received);
    if (visit.in_bytes < sizeof(wire::TcpVerdict)) return Step::kWaits;
    const auto verdict = wire::decode_tcp_verdict(std::span(visit.in).first(visit.in_bytes));
    if (verdict && verdict->granted != 0) {
      arrive(key, true, visit);
      return Step::kAgreed;
    }
    call.answered_ns = now;
  }
  // Its own connection is on its way; if that fails, it is called again.
  call.claimed = false;
  call.next_place = 0;
  call.next_ns = now + kDeclinedNs;
  next_sweep_ns_ = std::min(next_sweep_ns_, call.next_ns);
  return Step::kOver;
}

// --- time ---

void Lobby::sweep(std::uint64_t now) {
  next_sweep_ns_ = UINT64_MAX;
  if (doors_closed_until_ns_ != 0) {
    if (now >= doors_closed_until_ns_)
      open_doors();
    else
      next_sweep_ns_ = doors_closed_until_ns_;
  }
  std::erase_if(guests_, [&](const auto& guest) { return now - guest->since_ns >= kGuestNs; });
  if (!guests_.empty()) {
    next_sweep_ns_ = std::min(next_sweep_ns_, guests_.front()->since_ns + kGuestNs);
  }
  for (auto call = calls_.begin(); call != calls_.end();) {
    const auto each = call++;
    sweep_call(each->second, each->first, now);  // which may erase it
  }
  if (!watched_.empty()) check_silence(now);
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

// Whose host says nothing any more, though it is asked now and then, is gone.
void Lobby::check_silence(std::uint64_t now) {
  std::erase_if(watched_, [](const Watched& one) { return one.socket.expired(); });
  if (now >= next_check_ns_) {
    next_check_ns_ =
        now + std::clamp(config_.timeout_ns / 8, 100 * kMillisecond, 10'000 * kMillisecond);
    for (const Watched& one : watched_) {
      const auto socket = one.socket.lock();
      if (socket == nullptr || socket->silence_ns() < config_.timeout_ns) continue;
      socket->cut();
      losses_.push_back({one.process, "its host has not answered for " +
                                          std::to_string(config_.timeout_ns / 1'000'000'000u) +
                                          " s"});
      has_news_.store(true, std::memory_order_release);
    }
  }
  next_sweep_ns_ = std::min(next_sweep_ns_, next_check_ns_);
}

}  // namespace mooncake_mpi::tcp
