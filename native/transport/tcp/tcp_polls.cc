// What a poll of the tcp lane asks of its peers' connections. Engine lock held.
#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "transport/tcp/tcp_transport.h"

namespace mooncake_mpi::tcp {
namespace {

// Between two looks at connections that had nothing: others may be polled meanwhile.
constexpr std::uint64_t kLookEveryNs = 300;
constexpr std::uint32_t kIdleLooks = 64;
constexpr std::uint64_t kCreditNs = 1'000'000;
constexpr std::uint64_t kMuchCredit = 64 * 1024;

}  // namespace

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

}  // namespace mooncake_mpi::tcp
