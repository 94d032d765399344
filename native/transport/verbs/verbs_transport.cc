// The verbs lane: its ports and peers, what a poll asks of them, and when it is time for what is
// done now and then. Engine lock held, but where its thread is started and stopped.
#include "transport/verbs/verbs_transport.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "drivers/linux/lockable_memory.h"
#include "transport/verbs/mover.h"

namespace mooncake_mpi::verbs {

using verbs_driver::DeviceEvent;
using verbs_driver::PortInfo;
using verbs_driver::Provider;
using verbs_driver::Status;
using verbs_driver::WorkCompletion;

namespace {

constexpr std::uint64_t kMostBounceBytes = 8u << 20;
constexpr std::uint64_t kTickNs = 10'000'000;
constexpr std::uint32_t kDatagramsEvery = 4;
constexpr std::uint64_t kSlowTickNs = 100'000'000;
constexpr std::uint64_t kHeartbeatNs = 1'000'000'000;
constexpr std::uint64_t kRetireNs = 100'000'000;

}  // namespace

VerbsTransport::VerbsTransport(const wire::Address& self, std::shared_ptr<Provider> provider,
                               const Config& config, MoverCounters& counters,
                               std::shared_ptr<linux_driver::MemoryPlaces> places)
    : self_{self.uid, self.job_secret},
      provider_(std::move(provider)),
      config_(config),
      counters_(counters),
      places_(std::move(places)) {}

VerbsTransport::~VerbsTransport() {
  watcher_.stop();
  for (Connection* connection : std::exchange(retired_, {}))
    connections_.remove(*connection);
}

Result<std::unique_ptr<VerbsTransport>> VerbsTransport::create(
    const wire::Address& self, std::shared_ptr<Provider> provider, const Config& config,
    MoverCounters& counters, std::shared_ptr<linux_driver::MemoryPlaces> places, SharedPool* pool) {
  Result<std::vector<PortInfo>> ports = provider->ports();
  if (!ports) return ports.failure();
  if (ports.value().empty()) return Failure{Error::kUnreachable, "no RDMA device"};
  if (places == nullptr) places = linux_driver::system_memory_places();
  std::unique_ptr<VerbsTransport> transport(
      new VerbsTransport(self, std::move(provider), config, counters, std::move(places)));
  if (!wire::has_secret(self.job_secret)) {
    return Failure{Error::kOther, "no random numbers for the job's secret"};
  }
  const std::vector<PortReport> reports =
      survey(std::move(ports).value(), transport->config_, *transport->places_);
  transport->divide_memory(reports);
  std::string troubles;
  bool any_active = false;
  for (const PortReport& report : reports) {
    const PortInfo& port = report.port;
    if (!report.chosen) continue;
    std::string trouble = report.trouble;
    if (trouble.empty()) {
      auto rail = Rail::open(*transport->provider_, port, transport->config_, pool);
      if (rail) {
        trouble = rail.value()->active() ? "" : "port " + port.state;
        any_active |= rail.value()->active();
        rail.value()->set_distance(report.distance);
        transport->rails_.push_back(std::move(rail).value());
      } else {
        trouble = rail.failure().message;
      }
    }
    if (trouble.empty()) continue;
    if (!troubles.empty()) troubles += "; ";
    troubles += port.device + ":" + std::to_string(port.port) + " " + trouble;
  }
  if (!any_active) {
    if (troubles.empty()) troubles = "none of the chosen devices is here";
    return Failure{Error::kUnreachable, troubles};
  }
  return transport;
}

// What this process may lock is for the program's messages, for peers' packets and for others, too.
void VerbsTransport::divide_memory(const std::vector<PortReport>& reports) {
  const auto chosen =
      static_cast<std::uint64_t>(std::ranges::count_if(reports, &PortReport::chosen));
  const std::uint64_t share =
      linux_driver::lockable_memory_bytes() / std::max<std::uint64_t>(chosen, 1);
  if (config_.cached_bytes == Config::kQuarter) config_.cached_bytes = share / 4;
  bounce_buffers_.emplace(rails_, std::min(share / 8, kMostBounceBytes));
}

void VerbsTransport::describe(wire::Address& address) const {
  wire::Rails rails{};
  for (std::size_t i = 0; i < rails_.size(); ++i)
    rails[i] = rails_[i]->address();
  address.add(kLane, std::as_bytes(std::span(rails)));
}

std::string VerbsTransport::unreachable_reason(const wire::Address& peer) const {
  if (!wire::decode_rails(peer.section(kLane))) return "the peer has no RDMA port";
  if (!wire::has_secret(peer.job_secret)) return "the peer has no secret";
  return {};
}

Result<Way> VerbsTransport::connect(const wire::Address& address, Peer& peer) {
  auto channel = std::make_unique<VerbsChannel>(*this, address, peer);
  Result<bool> opened = channel->open();
  if (!opened) return opened.failure();
  channels_[address.uid] = channel.get();
  // From here on no channel that asks for attention allocates.
  attention_.reserve(channels_.size());
  attending_.reserve(channels_.size());
  auto mover = std::make_unique<VerbsMover>(*this, *channel);
  return Way{std::move(channel), std::move(mover)};
}

unsigned VerbsTransport::poll(PacketSink& sink) {
  unsigned count = 0;
  for (const auto& rail : rails_)
    count += poll_rail(*rail, sink);
  ++polls_;
  // Datagrams can wait for some turns, but not for ever: the watcher sleeps on after it has told.
  // What came before them is taken first, all of it: whoever connects again sends again what was
  // not consumed, and needs the receive buffers for that.
  if (polls_ % kDatagramsEvery == 0 || watcher_.take_datagrams()) [[unlikely]] {
    for (const auto& rail : rails_) {
      for (unsigned taken = Rail::kCompletions; taken == Rail::kCompletions; count += taken)
        taken = poll_rail(*rail, sink);
    }
    for (const auto& rail : rails_)
      count += rail->poll_datagrams([&](Bytes datagram) { on_datagram(datagram, sink); });
  }
  if (watcher_.has_events()) [[unlikely]]
    take_port_events();
  // The watcher keeps the time; a program that polls all the time keeps it from nothing.
  if (watcher_.take_due() || polls_ % 1024 == 0) [[unlikely]]
    tick(sink);
  if (!attention_.empty()) {
    attending_.swap(attention_);
    attend_to_all(sink);
    attending_.clear();
  }
  return count;
}

void VerbsTransport::attend_to_all(PacketSink& sink) {
  std::size_t i = 0;
  try {
    for (; i < attending_.size(); ++i) {
      if (attending_[i] == nullptr) continue;  // destroyed meanwhile
      attending_[i]->attention_ = false;
      attending_[i]->attend(sink);
    }
  } catch (...) {  // no memory: at the next poll
    for (; i < attending_.size(); ++i) {
      if (attending_[i] == nullptr) continue;
      attending_[i]->attention_ = false;
      attend_later(*attending_[i]);
    }
    attending_.clear();
    throw;
  }
}

// A completion is taken off once everything that it brings has been done: where there is no memory
// for that, the next poll begins with it.
unsigned VerbsTransport::poll_rail(Rail& rail, PacketSink& sink) {
  const unsigned count = rail.take_completions();
  if (count == 0) {
    if (rail.has_spent()) rail.repost();
    return 0;
  }
  while (const WorkCompletion* done = rail.next_completion()) {
    on_completion(rail, *done, sink);
    rail.pass_completion();
  }
  return count;
}

void VerbsTransport::on_completion(Rail& rail, const WorkCompletion& done, PacketSink& sink) {
  if (ConnectionTable::is_send(done.id)) {
    std::uint32_t request = 0;
    Connection* connection = connections_.find(done.id, request);
    if (connection != nullptr) {
      connection->channel->on_send_completion(*connection, request, done.status);
    }
    return;
  }
  if (done.status == Status::kSuccess) {
    const auto connection = rail.connections.find(done.queue_pair);
    if (connection != rail.connections.end() && !connection->second->channel->failed()) {
      connection->second->channel->on_packet(Bytes(rail.receive_buffer(done.id), done.bytes), sink);
    }
  }
  rail.repost_later(done.id);
}

// From anywhere: what is not proved with our secret and the sender's is nobody's of our job.
void VerbsTransport::on_datagram(Bytes datagram, PacketSink& sink) {
  const auto from = wire::hello_sender(datagram, self_.uid);
  if (!from) return;
  auto channel = channels_.find(*from);
  const bool known = channel != channels_.end();
  const auto secret = known ? std::nullopt : sink.secret_of(*from);
  if (!known && (!secret || !wire::has_secret(*secret))) return;
  const wire::Key key =
      known ? channel->second->hello_key_ : wire::hello_key(self_, {*from, *secret});
  const auto hello = wire::decode_hello(datagram, key, self_.uid);
  if (!hello) return;
  if (!known) {
    // Not known yet, or gone: it will ask again.
    if (sink.on_connect(hello->from) == nullptr) return;
    channel = channels_.find(hello->from);
    if (channel == channels_.end()) return;
  }
  channel->second->on_hello(*hello);
}

void VerbsTransport::take_port_events() {
  for (const EventWatcher::Event& event : watcher_.take_events()) {
    const bool active = event.event.event == DeviceEvent::kPortActive;
    const bool down = event.event.event == DeviceEvent::kPortDown ||
                      event.event.event == DeviceEvent::kDeviceFatal;
    if (!active && !down) continue;
    event.rail->set_active(active);
    for (const auto& [process, channel] : channels_)
      channel->on_port_event(*event.rail, active);
  }
}

void VerbsTransport::tick(PacketSink& sink) {
  const std::uint64_t now = now_ns();
  const bool beat = now >= next_heartbeat_ns_;
  if (beat) next_heartbeat_ns_ = now + kHeartbeatNs;
  std::uint64_t next = VerbsChannel::kNever;
  for (const auto& [process, channel] : channels_) {
    if (channel->failed()) continue;
    if (beat) channel->heartbeat();
    next = std::min(next, channel->tick(now));
  }
  std::erase_if(retired_, [&](Connection* connection) {
    if (now - connection->retired_ns < kRetireNs) return false;
    close(*connection);
    return true;
  });
  if (!retired_.empty()) next = std::min(next, now + kRetireNs);
  // Few different ones, as each change wakes the watcher.
  std::uint64_t interval_ns = channels_.empty() ? 0 : kHeartbeatNs;
  if (next < now + 5 * kTickNs) {
    interval_ns = kTickNs;
  } else if (next < now + kHeartbeatNs) {
    interval_ns = kSlowTickNs;
  }
  watcher_.set_interval(interval_ns);
  while (VerbsChannel* channel = find_lost()) {
    const std::string reason = channel->last_error_;
    channel->abandon();
    sink.on_failure(channel->peer(), reason);  // which may destroy the channel
  }
}

// A channel that has failed, and whose peer's operations have yet to hear of it.
VerbsChannel* VerbsTransport::find_lost() const noexcept {
  for (const auto& [process, channel] : channels_) {
    if (channel->failed() && !channel->abandoned()) return channel;
  }
  return nullptr;
}

void VerbsTransport::tick_soon() {
  watcher_.set_interval(kTickNs);
}

void VerbsTransport::retire(Connection& connection, std::uint64_t now) {
  connection.retired_ns = now;
  retired_.push_back(&connection);  // there is room
}

// Once its queue pair is destroyed the adapter touches nothing of it any more.
void VerbsTransport::close(Connection& connection) {
  VerbsChannel& channel = *connection.channel;
  connection.rail->connections.erase(connection.pair->number());
  connection.pair.reset();
  channel.on_closed(connection);
  connections_.remove(connection);
  attend_later(channel);
}

void VerbsTransport::close_all(VerbsChannel& channel) {
  std::erase_if(retired_,
                [&](const Connection* connection) { return connection->channel == &channel; });
  connections_.remove_all(channel);
}

void VerbsTransport::attend_later(VerbsChannel& channel) {
  if (channel.attention_) return;
  channel.attention_ = true;
  attention_.push_back(&channel);
}

// What had arrived from a process that has ended.
void VerbsTransport::drain(Peer&, PacketSink& sink) {
  for (const auto& rail : rails_) {
    while (poll_rail(*rail, sink) != 0) {
    }
  }
}

void VerbsTransport::start(Waker& waker) {
  watcher_.start(waker, rails_);
}

void VerbsTransport::before_sleep() {
  for (const auto& rail : rails_)
    rail->completions().arm();
}

bool VerbsTransport::drained() {
  bool all = true;
  for (const auto& [process, channel] : channels_)
    all &= channel->drained();
  return all;
}

}  // namespace mooncake_mpi::verbs
