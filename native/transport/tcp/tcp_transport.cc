// The tcp lane: its peers, and how a sleeping process hears of their connections. Engine lock held,
// but for on_turn(), which is the watcher's.
#include "transport/tcp/tcp_transport.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::tcp {

using linux_driver::Network;

namespace {

constexpr std::uint64_t kSoonNs = 1'000'000;
// So long what is gathered waits for a poll at most, about.
constexpr std::uint64_t kForgottenNs = 50'000;

// Tags of what the watcher sleeps on.
constexpr std::uint64_t kSockets = 1;
constexpr std::uint64_t kDoors = 2;

}  // namespace

TcpTransport::TcpTransport(const wire::Address& self, std::shared_ptr<Network> network,
                           const Config& config)
    : self_(self), config_(config), lobby_(self, std::move(network), config) {}

TcpTransport::~TcpTransport() {
  watcher_.stop();
}

Result<std::unique_ptr<TcpTransport>> TcpTransport::create(const wire::Address& self,
                                                           std::shared_ptr<Network> network,
                                                           const Config& config) {
  if (self.job_secret == decltype(self.job_secret){}) {
    return Failure{Error::kOther, "no random numbers for the job's secret"};
  }
  std::unique_ptr<TcpTransport> transport(new TcpTransport(self, std::move(network), config));
  Result<bool> opened = transport->lobby_.open();
  if (!opened) return opened.failure();
  if (!transport->sockets_.ok()) {
    return Failure{Error::kOther, "no descriptors left (ulimit -n)"};
  }
  return transport;
}

void TcpTransport::describe(wire::Address& address) const {
  std::vector<wire::TcpEndpoint> endpoints;
  for (const Endpoint& endpoint : lobby_.endpoints())
    endpoints.push_back(to_wire(endpoint));
  address.add(kLane, std::as_bytes(std::span(endpoints)));
}

std::string TcpTransport::unreachable_reason(const wire::Address& peer) const {
  if (wire::decode_tcp_endpoints(peer.section(kLane)).empty()) {
    return "the peer can be called at no address";
  }
  if (peer.uid == self_.uid) return "this process itself";
  if (peer.job_secret == decltype(peer.job_secret){}) return "the peer has no secret";
  return {};
}

void TcpTransport::expect(const wire::Address& peer) {
  if (!unreachable_reason(peer).empty()) return;
  lobby_.expect(peer);
  begin();
}

// From here on there may be something to hear.
void TcpTransport::begin() {
  if (!open_) {
    inbox_.resize(kInboxBytes);
    watcher_.add(lobby_.descriptor(), EPOLLIN, kDoors);
    watcher_.add(sockets_.descriptor(), EPOLLONESHOT, kSockets);
    open_ = true;
  }
  if (waker_ != nullptr && !watcher_.running()) watcher_.start(*this);
}

Result<Way> TcpTransport::connect(const wire::Address& address, Peer& peer) {
  begin();
  // From here on no channel that asks for attention allocates.
  attention_.reserve(channels_.size() + 1);
  owing_.reserve(channels_.size() + 1);
  auto channel = std::make_unique<TcpChannel>(*this, address, peer);
  auto mover = std::make_unique<TcpMover>(*this, *channel);
  add(*channel);
  const bool has_called = std::ranges::any_of(
      arrivals_, [&](const Lobby::Arrival& arrival) { return arrival.process == address.uid; });
  if (!has_called) {
    lobby_.call(address, wire::kTcpPackets);
    watcher_.nudge();
  }
  return Way{std::move(channel), std::move(mover)};
}

void TcpTransport::add(TcpChannel& channel) {
  const auto free = std::ranges::find(by_number_, nullptr);
  channel.number_ = static_cast<std::uint64_t>(free - by_number_.begin());
  if (free == by_number_.end()) by_number_.push_back(nullptr);
  channels_[channel.address().uid] = &channel;
  by_number_[channel.number_] = &channel;
}

void TcpTransport::remove(TcpChannel& channel) noexcept {
  const auto found = channels_.find(channel.address().uid);
  if (found != channels_.end() && found->second == &channel) {
    channels_.erase(found);
    by_number_[channel.number_] = nullptr;
  }
  std::erase(attention_, &channel);
  std::erase(owing_, &channel);
  if (held_.channel == &channel) held_ = {};
}

TcpChannel* TcpTransport::find(const ProcessId& process) const noexcept {
  const auto found = channels_.find(process);
  return found != channels_.end() ? found->second : nullptr;
}

TcpChannel* TcpTransport::find(const Peer& peer) const noexcept {
  const auto found = std::ranges::find_if(by_number_, [&](const TcpChannel* channel) {
    return channel != nullptr && &channel->peer() == &peer;
  });
  return found != by_number_.end() ? *found : nullptr;
}

void TcpTransport::let_go(TcpChannel& channel) noexcept {
  if (channel.socket() != nullptr) let_go(*channel.socket());
}

void TcpTransport::attend_later(TcpChannel& channel) noexcept {
  if (channel.attention_) return;
  channel.attention_ = true;
  attention_.push_back(&channel);
}

void TcpTransport::gathers(TcpChannel& channel, std::uint64_t now) noexcept {
  attend_later(channel);
  looked_ns_ = 0;  // the next poll looks
  if (gathering_++ == 0) gathered_since_ns_.store(now, std::memory_order_seq_cst);
  if (polling_ || alarm_is_set_.load(std::memory_order_seq_cst)) return;
  alarm_is_set_.store(true);
  alarms_ = watcher_.set_alarm(kForgottenNs);
}

void TcpTransport::has_gathered() noexcept {
  if (--gathering_ == 0) gathered_since_ns_.store(0, std::memory_order_relaxed);
}

void TcpTransport::push() noexcept {
  if (gathering_ == 0) return;
  for (TcpChannel* channel : attention_)
    channel->push();
}

// The watcher's, when its alarm goes off: whether something was gathered that nobody has sent.
bool TcpTransport::is_forgotten(std::uint64_t now) noexcept {
  alarm_is_set_.store(false, std::memory_order_seq_cst);
  const std::uint64_t since = gathered_since_ns_.load(std::memory_order_seq_cst);
  if (since == 0) return false;
  const std::uint64_t age = now > since ? now - since : 0;
  if (age >= kForgottenNs) return true;
  if (!alarm_is_set_.exchange(true)) watcher_.set_alarm(kForgottenNs - age);
  return false;
}

void TcpTransport::owes_credit(TcpChannel& channel) noexcept {
  if (channel.owes_) return;
  channel.owes_ = true;
  channel.owed_since_ns_ = 0;
  owing_.push_back(&channel);
}

void TcpTransport::drain(Peer& peer, PacketSink& sink) {
  if (held_.channel != nullptr) held_.channel->deliver(sink);
  TcpChannel* channel = find(peer);
  while (channel != nullptr && channel->receive(sink) != 0) {
  }
}

void TcpTransport::forget(Peer& peer) {
  const TcpChannel* channel = find(peer);
  if (channel == nullptr) return;
  const ProcessId process = channel->address().uid;
  lobby_.forget(process);
  std::erase_if(arrivals_, [&](const auto& arrival) { return arrival.process == process; });
}

bool TcpTransport::drained() {
  bool all = true;
  for (const auto& [process, channel] : channels_)
    all &= channel->drained();
  // Nothing tells that the other side has confirmed it all.
  if (!all && !wakes_soon_.exchange(true)) watcher_.nudge();
  return all;
}

// --- sleep ---

void TcpTransport::before_sleep() {
  if (!open_) return;
  for (TcpChannel* channel : owing_)
    channel->tell_credit();
  push();
  for (TcpChannel* channel : attention_)
    channel->arm();
  watcher_.change(sockets_.descriptor(), EPOLLIN | EPOLLONESHOT, kSockets);
}

std::uint64_t TcpTransport::on_turn(std::span<const epoll_event> events) {
  const std::uint64_t now = now_ns();
  bool wakes = false;
  bool alarmed = false;
  for (const epoll_event& event : events) {
    wakes |= event.data.u64 == kSockets;
    alarmed |= event.data.u64 == Watcher::kAlarm;
  }
  if (alarmed && is_forgotten(now)) waker_->poll_now();
  std::uint64_t next = lobby_.turn(now);
  if (wakes_soon_.load()) {
    if (soon_ns_ == 0) soon_ns_ = now + kSoonNs;
    if (now >= soon_ns_) {
      soon_ns_ = 0;
      wakes_soon_.store(false);
      wakes = true;
    } else {
      next = std::min(next, soon_ns_);
    }
  }
  if (wakes || lobby_.has_news()) waker_->wake();
  return next;
}

// --- forks ---

void TcpTransport::before_fork() {
  lobby_.lock();
}

void TcpTransport::after_fork_in_parent() {
  lobby_.unlock();
}

// A connection that the child kept would outlive the parent.
void TcpTransport::after_fork_in_child() noexcept {
  lobby_.leave_behind();
  for (TcpChannel* channel : by_number_) {
    if (channel != nullptr) channel->leave_behind();
  }
}

}  // namespace mooncake_mpi::tcp
