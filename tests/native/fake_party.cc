// Parties that are a protocol over the fake lane, without an engine. One thread plays them all, and
// no lock is held.
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
    transport_ = std::make_unique<FakeTransport>(network, address_.uid);
  }

  wire::Address address() const { return address_; }
  void activate(const std::vector<wire::Address>& members) {
    for (const wire::Address& member : members) {
      peers_.push_back(std::make_unique<Peer>(member));
      Peer& peer = *peers_.back();
      peer.channel = take(transport_->connect(member, peer));
      context_.members.push_back({&peer, member.context});
    }
  }

  Operation& send(int dest, int tag, const Buffer& buffer, SendMode mode) override {
    return start(dest, tag, buffer, mode, nullptr);
  }
  Operation& send_pieces(int dest, int tag, std::unique_ptr<Pieces> pieces,
                         SendMode mode) override {
    const Buffer whole{nullptr, pieces->bytes()};
    return start(dest, tag, whole, mode, std::move(pieces));
  }
  Operation& start(int dest, int tag, const Buffer& buffer, SendMode mode,
                   std::unique_ptr<Pieces> pieces) {
    Operation& operation = protocol_.operations().acquire(Operation::Kind::kSend);
    operation.peer = context_.members[static_cast<std::size_t>(dest)].peer;
    operation.buffer = buffer;
    operation.pieces = std::move(pieces);
    operation.header = header(dest, tag, buffer);
    operation.context_number = context_.number;
    operation.completion.dest = dest;
    protocol_.start_send(operation, mode == SendMode::kSynchronous);
    return operation;
  }
  bool try_send_now(int dest, int tag, const Buffer& buffer) override {
    return protocol_.try_send_now(*context_.members[static_cast<std::size_t>(dest)].peer,
                                  header(dest, tag, buffer), buffer);
  }
  Operation& receive(int source, int tag, const Buffer& buffer) override {
    Operation& operation = new_receive(source, tag, buffer);
    protocol_.start_receive(operation, kChannel);
    return operation;
  }
  Operation& receive_any_size(int source, int tag) override {
    Operation& operation = new_receive(source, tag, {});
    operation.allocate_on_match = true;
    protocol_.start_receive(operation, kChannel);
    return operation;
  }
  UnexpectedMessage* improbe(int source, int tag) override {
    progress();
    return static_cast<UnexpectedMessage*>(context_.matcher(kChannel).take(source, tag));
  }
  Operation& receive_matched(UnexpectedMessage& message, const Buffer& buffer) override {
    Operation& operation = new_receive(message.source, message.tag, buffer);
    protocol_.start_matched_receive(operation, message);
    return operation;
  }
  bool cancel(Operation& operation) override { return protocol_.cancel(operation, kChannel); }
  void release(Operation& operation) override { protocol_.release(operation); }
  unsigned progress() override { return transport_->poll(*this) + protocol_.advance(); }
  void fail(int rank) override {
    Peer& peer = *context_.members[static_cast<std::size_t>(rank)].peer;
    transport_->poll(*this);
    protocol_.fail_peer(peer, Error::kProcessFailed);
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

  void on_packet(Peer& from, const wire::Header& header, Bytes payload) override {
    protocol_.on_packet(from, header, payload);
  }
  Peer* on_connect(const ProcessId& process) override {
    for (const auto& peer : peers_) {
      if (peer->address.uid == process) return peer.get();
    }
    return nullptr;
  }
  wire::Header header(int dest, int tag, const Buffer& buffer) const {
    const std::uint32_t number = context_.members[static_cast<std::size_t>(dest)].number;
    return wire::message_header(wire::Kind::kEager, ContextTable::with_channel(number, kChannel),
                                context_.rank, tag, 0, buffer.bytes);
  }
  Operation& new_receive(int source, int tag, const Buffer& buffer) {
    Operation& operation = protocol_.operations().acquire(Operation::Kind::kReceive);
    operation.context = &context_;
    operation.source = source;
    operation.tag = tag;
    operation.buffer = buffer;
    if (source != kAnySource) {
      operation.peer = context_.members[static_cast<std::size_t>(source)].peer;
    }
    return operation;
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
