// The tcp lane: its peers, what a poll asks of their connections, and how a sleeping process hears
// of them. Engine lock held, but for on_turn(), which is the watcher's.
#include "transport/tcp/tcp_transport.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::tcp {

using linux_driver::Network;

namespace {

// Between two looks at connections that had nothing: others may be polled meanwhile.
constexpr std::uint64_t kLookEveryNs = 300;
constexpr std::uint32_t kIdleLooks = 64;
constexpr std::uint64_t kCreditNs = 1'000'000;
constexpr std::uint64_t kMuchCredit = 64 * 1024;
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

// --- polls ---

unsigned TcpTransport::poll(PacketSink& sink) {
  if (!open_) return 0;
  unsigned count = 0;
  if (held_.channel != nullptr) [[unlikely]]
    count += held_.channel->deliver(sink);
  const std::uint64_t now = now_ns();
  if (count != 0 || now - looked_ns_ >= kLookEveryNs) {
    const Polling polling(*this);
    if (!watcher_.running()) [[unlikely]]
      lobby_.turn(now);
    if (lobby_.has_news() || !arrivals_.empty() || !losses_.empty()) [[unlikely]]
      count += take_news(sink);
    if (!channels_.empty()) count += look(sink);
    if (!attention_.empty()) count += attend(sink);
    if (!owing_.empty()) tell_credits(now);
    // What has found something looks again at once.
    looked_ns_ = count != 0 ? 0 : now;
  }
  return count;
}

// What it takes stays taken, whatever there is no memory for.
unsigned TcpTransport::take_news(PacketSink& sink) {
  unsigned count = 0;
  if (lobby_.has_news()) lobby_.take_news(arrivals_, losses_);
  for (const Lobby::Loss& loss : losses_) {
    if (TcpChannel* channel = find(loss.process)) channel->lose(loss.reason);
    ++count;
  }
  losses_.clear();
  for (std::size_t i = 0; i < arrivals_.size();) {
    if (!take(arrivals_[i], sink)) {
      ++i;
      continue;
    }
    arrivals_.erase(arrivals_.begin() + static_cast<std::ptrdiff_t>(i));
    ++count;
  }
  return count;
}

// False: not yet.
bool TcpTransport::take(Lobby::Arrival& arrival, PacketSink& sink) {
  TcpChannel* channel = find(arrival.process);
  if (arrival.stream != wire::kTcpPackets) {
    if (channel == nullptr || !channel->connected()) return true;  // it has gone meanwhile
    channel->mover_->add_stream(arrival.stream, arrival.socket);
  } else {
    if (channel == nullptr) {
      if (sink.on_connect(arrival.process) == nullptr) return sink.refuses(arrival.process);
      channel = find(arrival.process);
      if (channel == nullptr) return true;  // another lane reaches it
    }
    channel->open(arrival.socket, arrival.called);
  }
  sockets_.add(arrival.socket->descriptor(), EPOLLIN, channel->number_);
  lobby_.look_after(arrival.process, arrival.socket);
  attend_later(*channel);
  return true;
}

unsigned TcpTransport::look(PacketSink& sink) {
  unsigned count = 0;
  if (channels_.size() <= config_.few_peers) {
    const bool all = ++looks_ % kIdleLooks == 0;
    for (std::size_t i = 0; i < by_number_.size(); ++i) {
      TcpChannel* channel = by_number_[i];
      if (channel == nullptr) continue;
      count += channel->receive(sink);
      if (all) count += channel->mover_->advance(sink);
    }
    return count;
  }
  std::array<epoll_event, 64> events;
  const std::size_t ready = sockets_.wait(events, 0);
  for (std::size_t i = 0; i < ready; ++i) {
    TcpChannel* channel = by_number_[events[i].data.u64];
    if (channel == nullptr) continue;
    count += channel->receive(sink);
    count += channel->mover_->advance(sink);
  }
  return count;
}

// Those with something under way, and those that are lost. Nothing here ends a channel but the
// report that it is lost.
unsigned TcpTransport::attend(PacketSink& sink) {
  unsigned count = 0;
  bool lost = false;
  for (std::size_t i = 0; i < attention_.size();) {
    TcpChannel& channel = *attention_[i];
    if (!channel.failed_) {
      if (channel.holds()) [[unlikely]]
        count += channel.receive(sink);
      if (channel.has_unsent() && channel.flush()) ++count;
      if (channel.mover_->is_busy()) count += channel.mover_->advance(sink);
      channel.wants_room_ = false;  // who still waits says so before it sleeps
    }
    lost |= channel.failed_ && !channel.reported_;
    if (channel.failed_ || channel.holds() || channel.has_unsent() || channel.mover_->is_busy() ||
        channel.is_armed()) {
      ++i;
      continue;
    }
    channel.attention_ = false;
    attention_.erase(attention_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (lost) count += report_lost(sink);
  return count;
}

// Each report may destroy the channel.
unsigned TcpTransport::report_lost(PacketSink& sink) {
  unsigned count = 0;
  for (;;) {
    const auto lost = std::ranges::find_if(attention_, [](const TcpChannel* channel) {
      return channel->failed_ && !channel->reported_;
    });
    if (lost == attention_.end()) return count;
    TcpChannel& channel = **lost;
    const std::string reason = channel.reason_;
    channel.reported_ = true;
    sink.on_failure(channel.peer(), reason);
    ++count;
  }
}

// Most of it goes with other packets.
void TcpTransport::tell_credits(std::uint64_t now) noexcept {
  std::erase_if(owing_, [now](TcpChannel* channel) {
    if (channel->owed_credit() != 0 && channel->owed_since_ns_ == 0) channel->owed_since_ns_ = now;
    if (channel->owed_credit() >= kMuchCredit || now - channel->owed_since_ns_ >= kCreditNs) {
      channel->tell_credit();
    }
    channel->owes_ = channel->owed_credit() != 0 && !channel->failed_;
    return !channel->owes_;
  });
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
