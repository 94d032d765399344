// Parties that are whole engines, each with a process memory and a watch of its own. One thread
// plays them all, beside the engines' own threads.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cuda_device.h"
#include "drivers/linux/fake_memory_places.h"
#include "drivers/linux/fake_process_watch.h"
#include "parties.h"
#include "transport/cuda_ipc/lane.h"
#include "transport/self/lane.h"
#include "transport/shm/lane.h"
#include "transport/tcp/lane.h"
#include "transport/verbs/lane.h"

namespace mooncake_mpi::testing {
namespace {

using linux_driver::RemoteProcess;

// Reads, but writes only now and then.
class FlakyProcessMemory final : public linux_driver::ProcessMemory {
 public:
  int read(const RemoteProcess& process, void* local, std::uint64_t remote,
           std::size_t bytes) override {
    return system_.read(process, local, remote, bytes);
  }
  int write(const RemoteProcess& process, const void* local, std::uint64_t remote,
            std::size_t bytes) override {
    return ++writes_ % 4 == 0 ? EPERM : system_.write(process, local, remote, bytes);
  }

 private:
  linux_driver::SystemProcessMemory system_;
  unsigned writes_ = 0;
};

// Refused for good after some reads, the probes of the start among them.
class WithdrawnProcessMemory final : public linux_driver::ProcessMemory {
 public:
  int read(const RemoteProcess& process, void* local, std::uint64_t remote,
           std::size_t bytes) override {
    return ++reads_ > kReads ? EPERM : system_.read(process, local, remote, bytes);
  }
  int write(const RemoteProcess& process, const void* local, std::uint64_t remote,
            std::size_t bytes) override {
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
  if (lane.kind == Lane::Kind::kShm) return std::make_unique<linux_driver::SystemProcessMemory>();
  return std::make_unique<linux_driver::RefusedProcessMemory>(EPERM);
}

// The lanes of a process: itself, and the one that the test is about.
std::vector<mooncake_mpi::Lane> lanes_of(const Lane& lane, verbs_driver::FakeFabric& fabric,
                                         linux_driver::FakeInternet& internet, int rank) {
  if (lane.kind == Lane::Kind::kTcp || lane.kind == Lane::Kind::kTcpFake) {
    tcp::Drivers drivers;
    if (lane.kind == Lane::Kind::kTcpFake) {
      drivers.network = internet.add_host();
    } else {
      drivers.config.interfaces = {"127.0.0.0/8"};
    }
    drivers.config.timeout_ns = lane.refused_ns + 1'000'000'000u;
    drivers.config.refused_ns = lane.refused_ns;
    drivers.config.streams = 2;
    drivers.config.stream_bytes = 50'000;
    drivers.config.few_peers = lane.few_peers;
    drivers.config.closely_ns = lane.closely_ns;
    drivers.config.encrypts = lane.encrypts;
    return {self_lane(), cuda_ipc::lane(), tcp::lane(drivers)};
  }
  if (lane.kind == Lane::Kind::kVerbs) {
    verbs::Drivers drivers;
    drivers.provider = fabric.make_provider(lane.rails);
    drivers.config.fragment_bytes = 16 * 1024;
    drivers.config.timeout_ns = 3'000'000'000u;
    if (lane.memory_node >= 0) {
      drivers.places = std::make_shared<linux_driver::FakeMemoryPlaces>(lane.memory_node);
    }
    return {self_lane(), cuda_ipc::lane(), verbs::lane(drivers)};
  }
  shm::Drivers drivers;
  drivers.memory = [lane, rank] { return process_memory(lane, rank); };
  if (!lane.maps) {
    drivers.mapper = [] { return std::make_unique<shm::RefusingRegionMapper>(); };
  }
  return {self_lane(), cuda_ipc::lane(), shm::lane(std::move(drivers))};
}

class EngineParty final : public Party {
 public:
  EngineParty(const Lane& lane, verbs_driver::FakeFabric& fabric,
              linux_driver::FakeInternet& internet, const ProtocolLimits& limits, int rank,
              int size)
      : uses_cuda_(lane.cuda) {
    EngineConfig config;
    config.limits = limits;
    config.pool = &process_pool();
    if (!lane.pushes) config.lanes = {"shm"};
    auto watch = std::make_unique<linux_driver::FakeProcessWatch>();
    watch_ = watch.get();
    engine_ =
        take(Engine::create(config, lanes_of(lane, fabric, internet, rank), std::move(watch)));
    if (lane.cuda) engine_->set_device_work(cuda_memory().queue());
    context_ = take(engine_->create_context(rank, size));
  }

  wire::Address address() const { return engine_->address(*context_); }
  void activate(const std::vector<wire::Address>& members) {
    take(engine_->activate(*context_, members));
  }

  Operation& send(int dest, int tag, const Buffer& buffer, SendMode mode) override {
    return *take(engine_->send(*context_, kChannel, dest, tag, buffer, mode));
  }
  Operation& send_pieces(int dest, int tag, std::unique_ptr<Source> pieces,
                         SendMode mode) override {
    return *take(engine_->send_pieces(*context_, kChannel, dest, tag, std::move(pieces), mode));
  }
  bool try_send_now(int dest, int tag, const Buffer& buffer) override {
    if (buffer.device != nullptr) return false;
    return engine_->try_send_now(*context_, kChannel, dest, tag, buffer);
  }
  Operation& receive(int source, int tag, const Buffer& buffer) override {
    if (buffer.device != nullptr) {
      return *take(engine_->receive_device(*context_, kChannel, source, tag, buffer));
    }
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
    if (buffer.device != nullptr) {
      return *take(engine_->receive_device(*context_, kChannel, message.source, message.tag, buffer,
                                           &message));
    }
    return *engine_->receive_matched(*context_, message, &buffer);
  }
  bool cancel(Operation& operation) override { return engine_->cancel(operation, kChannel); }
  void release(Operation& operation) override { engine_->release(operation); }
  unsigned progress() override {
    const unsigned worked = engine_->progress();
    return uses_cuda_ && cuda_memory().queue().waits() ? worked + 1 : worked;  // a GPU is at it
  }
  bool attend(bool attends) override { return engine_->attend(attends); }
  void wait(std::uint64_t timeout_ns, bool again) override {
    engine_->wait([] { return false; }, timeout_ns, again);
  }
  void stop() override {
    engine_->stop_threads();
    if (uses_cuda_) settle_cuda();
  }
  void fail(int rank) override {
    // Everybody but this rank is watched, in rank order.
    const auto token = static_cast<std::uint64_t>(rank < context_->rank ? rank : rank - 1);
    ASSERT_TRUE(watch_->end(token));
    const auto noticed = [&] {
      const auto failed = engine_->failures(*context_).ranks;
      return std::find(failed.begin(), failed.end(), rank) != failed.end();
    };
    for (int turn = 0; turn < 20'000 && !noticed(); ++turn)
      usleep(500);
    ASSERT_TRUE(noticed());
  }
  std::size_t acknowledge(std::size_t count) override {
    return engine_->acknowledge(*context_, count);
  }
  void revoke() override { engine_->revoke(*context_); }
  std::vector<std::string> path_troubles(int rank) override {
    return engine_->ways().troubles(*context_, rank);
  }
  Context& context() override { return *context_; }
  void inspect(const std::function<void(Protocol&)>& visit) override { engine_->inspect(visit); }

 private:
  static constexpr MatchChannel kChannel = MatchChannel::kMessages;
  linux_driver::FakeProcessWatch* watch_ = nullptr;
  const bool uses_cuda_;
  std::unique_ptr<Engine> engine_;
  Context* context_ = nullptr;
};

}  // namespace

Parties make_engine_parties(const Lane& lane, verbs_driver::FakeFabric& fabric,
                            linux_driver::FakeInternet& internet, const ProtocolLimits& limits,
                            int size) {
  Parties parties;
  for (int rank = 0; rank < size; ++rank)
    parties.push_back(std::make_unique<EngineParty>(lane, fabric, internet, limits, rank, size));
  connect<EngineParty>(parties);
  return parties;
}

}  // namespace mooncake_mpi::testing
