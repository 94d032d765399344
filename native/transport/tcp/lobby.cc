// Ports, calls and guests, up to a connection that both sides want. Its lock is held for every
// private function.
#include "transport/tcp/lobby.h"

#include <algorithm>
#include <iterator>

#include "transport/tcp/lobby_parts.h"

namespace mooncake_mpi::tcp {

using linux_driver::Network;

Lobby::Lobby(const wire::Address& self, std::shared_ptr<Network> network, const Config& config)
    : self_(identity_of(self, config)), network_(std::move(network)), config_(config) {}

Lobby::~Lobby() = default;

Result<bool> Lobby::open() {
  if (!doors_.ok()) return Failure{Error::kOther, "no descriptors left (ulimit -n)"};
  if (config_.encrypts) {  // what was asked for is not left out
    auto tls = openssl_driver::Tls::load(config_.tls_library);
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
