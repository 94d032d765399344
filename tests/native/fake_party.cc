// Parties that are a protocol over the fake lane, without an engine. One thread plays them all, and
// no lock is held.
#include "memory/memory_device.h"
#include "parties.h"
#include "transport/gone_channel.h"

namespace mooncake_mpi::testing {
namespace {

// Everything a Protocol needs to run over a lane: a transport, and a sink that knows the peers.
class FakeParty final : public Party, private PacketSink {
 public:
  FakeParty(FakeNetwork& network, const ProtocolLimits& limits, int rank, int size)
      : protocol_(limits), context_(*protocol_.contexts().create()) {
    context_.rank = rank;
    context_.size = size;
    address_.uid[0] = static_cast<std::byte>(rank + 1);
    address_.pid = rank + 1;
    address_.context = context_.number;
    protocol_.set_sink(this);
    transport_ = std::make_unique<FakeTransport>(network, address_.uid, limits.copy,
                                                 protocol_.mover_counters());
  }

  wire::Address address() const { return address_; }
  void activate(const std::vector<wire::Address>& members) {
    for (const wire::Address& member : members) {
      peers_.push_back(std::make_unique<Peer>(member));
      Peer& peer = *peers_.back();
      Way way = take(transport_->connect(member, peer));
      peer.channel = std::move(way.channel);
      peer.movers.push_back(std::move(way.mover));
      context_.members.push_back({&peer, member.context});
    }
  }

  Operation& send(int dest, int tag, const Buffer& buffer, SendMode mode) override {
    std::unique_ptr<Source> source;
    if (buffer.device != nullptr) source = take(buffer.device->source(buffer));
    return *take(protocol_.send(context_, dest, kChannel, tag, buffer, mode, std::move(source)));
  }
  Operation& send_pieces(int dest, int tag, std::unique_ptr<Source> pieces,
                         SendMode mode) override {
    const Buffer whole{nullptr, pieces->bytes()};
    return *take(protocol_.send(context_, dest, kChannel, tag, whole, mode, std::move(pieces)));
  }
  bool try_send_now(int dest, int tag, const Buffer& buffer) override {
    if (buffer.device != nullptr) return false;
    return protocol_.try_send_now(context_, context_.members[static_cast<std::size_t>(dest)],
                                  kChannel, tag, buffer);
  }
  Operation& receive(int source, int tag, const Buffer& buffer) override {
    return *protocol_.receive(context_, kChannel, source, tag, &buffer, nullptr, sink_of(buffer));
  }
  Operation& receive_any_size(int source, int tag) override {
    return *protocol_.receive(context_, kChannel, source, tag, nullptr);
  }
  UnexpectedMessage* improbe(int source, int tag) override {
    progress();
    return static_cast<UnexpectedMessage*>(context_.matcher(kChannel).take(source, tag));
  }
  Operation& receive_matched(UnexpectedMessage& message, const Buffer& buffer) override {
    return *protocol_.receive(context_, kChannel, message.source, message.tag, &buffer, &message,
                              sink_of(buffer));
  }
  bool cancel(Operation& operation) override { return protocol_.cancel(operation, kChannel); }
  void release(Operation& operation) override { protocol_.release(operation); }
  unsigned progress() override { return transport_->poll(*this) + protocol_.advance(); }
  void fail(int rank) override {
    Peer& peer = *context_.members[static_cast<std::size_t>(rank)].peer;
    transport_->poll(*this);
    protocol_.fail_peer(peer, Error::kProcessFailed);
    peer.movers.clear();
    peer.channel = std::make_unique<GoneChannel>();
  }
  std::size_t acknowledge(std::size_t count) override {
    return protocol_.acknowledge(context_, count);
  }
  void revoke() override { protocol_.revoke(context_); }
  Context& context() override { return context_; }
  void inspect(const std::function<void(Protocol&)>& visit) override { visit(protocol_); }

 private:
  static constexpr MatchChannel kChannel = MatchChannel::kMessages;

  static std::unique_ptr<Sink> sink_of(const Buffer& buffer) {
    return buffer.device == nullptr ? nullptr : take(buffer.device->sink(buffer));
  }
  void on_packet(Peer& from, const wire::Header& header, Bytes payload) override {
    protocol_.on_packet(from, header, payload);
  }
  Peer* on_connect(const ProcessId& process) override {
    for (const auto& peer : peers_) {
      if (peer->address.uid == process) return peer.get();
    }
    return nullptr;
  }
  void on_moved(Peer& peer, std::uint64_t id, Error error) override {
    protocol_.on_moved(peer, id, error);
  }
  void send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note) override {
    protocol_.send_note(peer, lane, id, note);
  }

  Protocol protocol_;
  Context& context_;
  wire::Address address_;
  std::unique_ptr<FakeTransport> transport_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace

Parties make_fake_parties(FakeNetwork& network, const ProtocolLimits& limits, int size) {
  Parties parties;
  for (int rank = 0; rank < size; ++rank)
    parties.push_back(std::make_unique<FakeParty>(network, limits, rank, size));
  connect<FakeParty>(parties);
  return parties;
}

}  // namespace mooncake_mpi::testing
