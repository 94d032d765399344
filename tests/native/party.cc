#include "party.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "drivers/linux/fake_memory_places.h"
#include "drivers/linux/fake_process_watch.h"
#include "transport/gone_channel.h"

namespace mooncake_mpi::testing {
namespace {

template <class T>
T take(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.failure().message;
    std::abort();
  }
  return std::move(result).value();
}

using linux_driver::RemoteProcess;

// Reads, but writes only now and then.
class FlakyProcessMemory final : public linux_driver::ProcessMemory {
 public:
  int read(const RemoteProcess& process, void* local, uint64_t remote, size_t bytes) override {
    return system_.read(process, local, remote, bytes);
  }
  int write(const RemoteProcess& process, const void* local, uint64_t remote,
            size_t bytes) override {
    return ++writes_ % 4 == 0 ? EPERM : system_.write(process, local, remote, bytes);
  }

 private:
  linux_driver::SystemProcessMemory system_;
  unsigned writes_ = 0;
};

// Refused for good after some reads, the probes of the start among them.
class WithdrawnProcessMemory final : public linux_driver::ProcessMemory {
 public:
  int read(const RemoteProcess& process, void* local, uint64_t remote, size_t bytes) override {
    return ++reads_ > kReads ? EPERM : system_.read(process, local, remote, bytes);
  }
  int write(const RemoteProcess& process, const void* local, uint64_t remote,
            size_t bytes) override {
    return reads_ > kReads ? EPERM : system_.write(process, local, remote, bytes);
  }

 private:
  static constexpr unsigned kReads = 4;
  linux_driver::SystemProcessMemory system_;
  unsigned reads_ = 0;
};

std::unique_ptr<linux_driver::ProcessMemory> process_memory(const Lane& lane, int rank) {
  if (lane.kind == Lane::Kind::kShmOneWay && rank == 0) {
    return std::make_unique<FlakyProcessMemory>();
  }
  if (lane.kind == Lane::Kind::kShmWithdrawn) return std::make_unique<WithdrawnProcessMemory>();
  if (lane.kind == Lane::Kind::kShm || lane.kind == Lane::Kind::kVerbs) return nullptr;
  return std::make_unique<linux_driver::RefusedProcessMemory>(EPERM);
}

// Where the buffers of the running test lie.
bool send_shared = false;
bool receive_shared = false;

class EngineParty final : public Party {
 public:
  EngineParty(const Lane& lane, verbs_driver::FakeFabric& fabric, const ProtocolLimits& limits,
              int rank, int size) {
    EngineConfig config;
    config.limits = limits;
    config.pool = &process_pool();
    config.verbs = lane.kind == Lane::Kind::kVerbs;
    if (config.verbs) {
      config.shm = false;
      config.verbs_provider = fabric.make_provider(lane.rails);
      config.verbs_config.fragment_bytes = 16 * 1024;
      config.verbs_config.timeout_ns = 3'000'000'000u;
      if (lane.memory_node >= 0) {
        config.memory_places = std::make_shared<linux_driver::FakeMemoryPlaces>(lane.memory_node);
      }
    }
    auto watch = std::make_unique<linux_driver::FakeProcessWatch>();
    watch_ = watch.get();
    std::unique_ptr<shm::RegionMapper> mapper;
    if (!lane.maps) mapper = std::make_unique<shm::RefusingRegionMapper>();
    engine_ = take(Engine::create(config, process_memory(lane, rank), {}, std::move(watch),
                                  std::move(mapper)));
    context_ = take(engine_->create_context(rank, size));
  }

  wire::Address address() const { return engine_->address(*context_); }
  void activate(const std::vector<wire::Address>& members) {
    take(engine_->activate(*context_, members));
  }

  Operation& send(int dest, int tag, const Buffer& buffer, SendMode mode) override {
    return *take(engine_->send(*context_, kChannel, dest, tag, buffer, mode));
  }
  Operation& send_pieces(int dest, int tag, std::unique_ptr<Pieces> pieces,
                         SendMode mode) override {
    return *take(engine_->send_pieces(*context_, kChannel, dest, tag, std::move(pieces), mode));
  }
  bool try_send_now(int dest, int tag, const Buffer& buffer) override {
    return engine_->try_send_now(*context_, kChannel, dest, tag, buffer);
  }
  Operation& receive(int source, int tag, const Buffer& buffer) override {
    return *engine_->receive(*context_, kChannel, source, tag, buffer);
  }
  Operation& receive_any_size(int source, int tag) override {
    return *engine_->receive_any_size(*context_, kChannel, source, tag);
  }
  UnexpectedMessage* improbe(int source, int tag) override {
    Engine::Envelope envelope;
    UnexpectedMessage* message = nullptr;
    engine_->iprobe(*context_, source, tag, envelope, &message);
    return message;
  }
  Operation& receive_matched(UnexpectedMessage& message, const Buffer& buffer) override {
    return *engine_->receive_matched(*context_, message, &buffer);
  }
  bool cancel(Operation& operation) override { return engine_->cancel(operation, kChannel); }
  void release(Operation& operation) override { engine_->release(operation); }
  unsigned progress() override { return engine_->progress(); }
  void wait(uint64_t timeout_ns, bool again) override {
    engine_->wait([] { return false; }, timeout_ns, again);
  }
  void fail(int rank) override {
    // Everybody but this rank is watched, in rank order.
    const auto token = static_cast<uint64_t>(rank < context_->rank ? rank : rank - 1);
    ASSERT_TRUE(watch_->end(token));
    const auto noticed = [&] {
      const auto failed = engine_->failures(*context_).ranks;
      return std::find(failed.begin(), failed.end(), rank) != failed.end();
    };
    for (int turn = 0; turn < 20'000 && !noticed(); ++turn)
      usleep(500);
    ASSERT_TRUE(noticed());
  }
  size_t acknowledge(size_t count) override { return engine_->acknowledge(*context_, count); }
  void revoke() override { engine_->revoke(*context_); }
  std::vector<std::string> path_troubles(int rank) override {
    return engine_->path_troubles(*context_, rank);
  }
  Context& context() override { return *context_; }
  void inspect(const std::function<void(Protocol&)>& visit) override { engine_->inspect(visit); }

 private:
  static constexpr MatchChannel kChannel = MatchChannel::kMessages;
  linux_driver::FakeProcessWatch* watch_ = nullptr;
  std::unique_ptr<Engine> engine_;
  Context* context_ = nullptr;
};

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
    operation.peer = context_.members[static_cast<size_t>(dest)].peer;
    operation.buffer = buffer;
    operation.pieces = std::move(pieces);
    operation.header = header(dest, tag, buffer);
    operation.context_number = context_.number;
    operation.completion.dest = dest;
    protocol_.start_send(operation, mode == SendMode::kSynchronous);
    return operation;
  }
  bool try_send_now(int dest, int tag, const Buffer& buffer) override {
    return protocol_.try_send_now(*context_.members[static_cast<size_t>(dest)].peer,
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
    Peer& peer = *context_.members[static_cast<size_t>(rank)].peer;
    transport_->poll(*this);
    protocol_.fail_peer(peer, Error::kProcessFailed);
    peer.channel = std::make_unique<GoneChannel>();
  }
  size_t acknowledge(size_t count) override { return protocol_.acknowledge(context_, count); }
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
    const uint32_t number = context_.members[static_cast<size_t>(dest)].number;
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
      operation.peer = context_.members[static_cast<size_t>(source)].peer;
    }
    return operation;
  }

  Protocol protocol_;
  Context& context_;
  wire::Address address_;
  std::unique_ptr<FakeTransport> transport_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

// What an address goes through on its way over MPI.
wire::Address over_the_wire(const wire::Address& address) {
  const auto decoded = wire::decode_address(wire::encode(address));
  EXPECT_TRUE(decoded.address.has_value()) << decoded.reason;
  return decoded.address.value_or(address);
}

template <class Concrete>
void connect(const std::vector<std::unique_ptr<Party>>& parties) {
  std::vector<wire::Address> members;
  for (const auto& party : parties) {
    members.push_back(over_the_wire(static_cast<Concrete&>(*party).address()));
  }
  for (const auto& party : parties)
    static_cast<Concrete&>(*party).activate(members);
}

// Word by word, since sanitizers make every access slow.
std::vector<std::byte> pattern(uint32_t seed, size_t bytes) {
  std::vector<std::byte> memory(bytes);
  uint64_t state = (uint64_t{seed} + 1) * 0x9e3779b97f4a7c15u;
  for (size_t at = 0; at < bytes; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(memory.data() + at, &state, std::min(sizeof state, bytes - at));
  }
  return memory;
}

bool same(Bytes first, Bytes second) {
  return first.size() == second.size() &&
         (first.empty() || std::memcmp(first.data(), second.data(), first.size()) == 0);
}

constexpr std::byte kUntouched{0xa5};

}  // namespace

void PrintTo(const Lane& lane, std::ostream* out) {
  *out << lane.name;
}

Job::Job(const Lane& lane, int size, const ProtocolLimits& limits,
         const std::function<void(verbs_driver::FakeFabric&)>& prepare)
    : network_(lane.fake), has_threads_(lane.kind == Lane::Kind::kVerbs) {
  if (prepare) prepare(fabric_);
  const bool fake = lane.kind == Lane::Kind::kFake;
  send_shared = lane.send_shared;
  receive_shared = lane.receive_shared;
  for (int rank = 0; rank < size; ++rank) {
    if (fake) {
      parties_.push_back(std::make_unique<FakeParty>(network_, limits, rank, size));
    } else {
      parties_.push_back(std::make_unique<EngineParty>(lane, fabric_, limits, rank, size));
    }
  }
  dead_.resize(parties_.size());
  fake ? connect<FakeParty>(parties_) : connect<EngineParty>(parties_);
}

Job::~Job() = default;

bool Job::run_until(const std::function<bool()>& done) {
  // A lane may have timers, and threads of its own: what takes this long is a hang.
  constexpr std::uint64_t kPatienceNs = 20'000'000'000u;
  for (const std::uint64_t start = now_ns(); now_ns() - start < kPatienceNs;) {
    if (run_until_idle(done)) return true;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return done();
}

// Parties that share one thread never wait for each other: after a few idle rounds nothing more
// happens by itself.
bool Job::run_until_idle(const std::function<bool()>& done) {
  for (int idle = 0; idle < 5; ++idle) {
    if (done()) return true;
    for (size_t rank = 0; rank < parties_.size(); ++rank) {
      if (!dead_[rank] && parties_[rank]->progress() != 0) idle = -1;
    }
  }
  return done();
}

void Job::step() {
  const size_t rank = turn_++ % parties_.size();
  if (!dead_[rank]) parties_[rank]->progress();
}

void Job::kill(int rank) {
  dead_[static_cast<size_t>(rank)] = true;
  for (size_t other = 0; other < parties_.size(); ++other) {
    if (!dead_[other]) parties_[other]->fail(rank);
  }
}

bool Job::finish(const std::vector<Operation*>& operations) {
  return run_until([&] {
    for (const Operation* operation : operations) {
      if (!operation->done) return false;
    }
    return true;
  });
}

bool Job::finish(std::initializer_list<Operation*> operations) {
  return finish(std::vector<Operation*>(operations));
}

// Where a lane has threads of its own, what they find to do is not seen here: they get some time.
void Job::settle() {
  for (int idle = 0; idle < (has_threads_ ? 20 : 5); ++idle) {
    for (size_t rank = 0; rank < parties_.size(); ++rank) {
      if (!dead_[rank] && parties_[rank]->progress() != 0) idle = -1;
    }
    if (has_threads_) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

TestMemory::TestMemory(size_t bytes, bool shared) : shared_(shared) {
  auto* address = shared ? process_pool().allocate(bytes).address : new std::byte[bytes];
  if (address == nullptr) std::abort();
  bytes_ = {address, bytes};
}

TestMemory::~TestMemory() {
  if (bytes_.data() == nullptr) return;
  if (shared_) {
    process_pool().free(bytes_.data());
  } else {
    delete[] bytes_.data();
  }
}

GuardedBuffer::GuardedBuffer(size_t bytes) : size_(bytes), memory_(bytes + kGuard, receive_shared) {
  std::ranges::fill(memory_.bytes(), kUntouched);
}

Buffer GuardedBuffer::buffer() {
  return {memory_.bytes().data(), size_};
}

void GuardedBuffer::expect(uint32_t seed, size_t bytes) const {
  // The pattern of a longer message begins with that of a shorter one.
  const Bytes all = memory_.bytes();
  EXPECT_TRUE(same(all.first(bytes), pattern(seed, bytes)))
      << "message " << seed << " of " << bytes << " bytes is damaged";
  const std::vector<std::byte> untouched(all.size() - bytes, kUntouched);
  EXPECT_TRUE(same(all.subspan(bytes), untouched)) << "bytes behind the message were written";
}

MessageBytes::MessageBytes(uint32_t seed, size_t bytes) : memory_(bytes, send_shared) {
  std::ranges::copy(pattern(seed, bytes), memory_.bytes().begin());
}

Buffer MessageBytes::buffer() {
  return {memory_.bytes().data(), memory_.bytes().size()};
}

}  // namespace mooncake_mpi::testing
