// The processes of a job, as objects of one test: each sends, receives and makes progress when the
// test says so. Over the engine's lanes a party is an Engine; over the fake lane it is a Protocol
// and a FakeTransport, which shows what a new lane has to bring along. One thread plays every rank,
// beside the threads of their engines.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "drivers/linux/fake_sockets.h"
#include "drivers/verbs/fake_fabric.h"
#include "engine/engine.h"
#include "fake_transport.h"
#include "test_memory.h"

namespace mooncake_mpi::testing {

class Party {
 public:
  virtual ~Party() = default;
  virtual Operation& send(int dest, int tag, const Buffer& buffer,
                          SendMode mode = SendMode::kStandard) = 0;
  // The message's bytes lie at several places.
  virtual Operation& send_pieces(int dest, int tag, std::unique_ptr<Source> pieces,
                                 SendMode mode = SendMode::kStandard) = 0;
  virtual bool try_send_now(int dest, int tag, const Buffer& buffer) = 0;
  virtual Operation& receive(int source, int tag, const Buffer& buffer) = 0;
  virtual Operation& receive_any_size(int source, int tag) = 0;
  virtual UnexpectedMessage* improbe(int source, int tag) = 0;
  virtual Operation& receive_matched(UnexpectedMessage& message, const Buffer& buffer) = 0;
  virtual bool cancel(Operation& operation) = 0;
  virtual void release(Operation& operation) = 0;
  virtual unsigned progress() = 0;
  // As if a thread of it waited from now on, or no longer; true: so that peers hear of it.
  virtual bool attend(bool /*attends*/) { return false; }
  // Waits for nothing that comes; `again`: it has done so before.
  virtual void wait(std::uint64_t /*timeout_ns*/, bool /*again*/) {}
  // This process has ended: nothing of it does anything any more.
  virtual void stop() {}
  // The process of `rank` has ended, and this party is told.
  virtual void fail(int rank) = 0;
  virtual std::size_t acknowledge(std::size_t count) = 0;
  virtual void revoke() = 0;
  virtual std::vector<std::string> path_troubles(int) { return {}; }
  virtual Context& context() = 0;
  virtual void inspect(const std::function<void(Protocol&)>& visit) = 0;

  ProtocolCounters counters() {
    ProtocolCounters counters;
    inspect([&](Protocol& protocol) { counters = protocol.counters(); });
    return counters;
  }
  // What went to that rank and came from it, and why it took a longer way than it could.
  Transfers transfers(int rank) {
    Transfers transfers;
    inspect([&](Protocol&) { transfers = peer(rank).transfers; });
    return transfers;
  }
  std::vector<std::string> detours(int rank) {
    std::vector<std::string> detours;
    inspect([&](Protocol&) { detours = peer(rank).detours; });
    return detours;
  }
  std::size_t unexpected_bytes() {
    std::size_t bytes = 0;
    inspect([&](Protocol& protocol) { bytes = protocol.unexpected().held_bytes(); });
    return bytes;
  }
  // Messages, announced ones too.
  std::size_t unexpected_count() {
    std::size_t count = 0;
    inspect([&](Protocol&) { count = context().unexpected_count(); });
    return count;
  }

 private:
  Peer& peer(int rank) { return *context().members[static_cast<std::size_t>(rank)].peer; }
};

inline constexpr std::uint64_t kAlways = 1'000'000'000'000u;

// How the parties of a test reach each other.
struct Lane {
  enum class Kind {
    kShm,
    kShmWithoutCma,
    kShmWithdrawn,  // each may read the others' memory a few times, and then no longer
    kShmOneWay,     // rank 0 may read and, now and then, write the others' memory; they may not
    kFake,
    kVerbs,
    kTcp,      // the system's sockets, over loopback
    kTcpFake,  // hosts in memory
  };
  const char* name;
  Kind kind = Kind::kShm;
  FakeLimits fake = {};
  bool send_shared = false;     // what is sent lies in memory that peers can map
  bool receive_shared = false;  // what is received does
  bool maps = true;             // or every mapping fails
  int rails = 1;
  int memory_node = -1;         // the NUMA node of all memory, where the machine has several
  bool send_device = false;     // what is sent lies in memory that the processor must not touch
  bool receive_device = false;  // what is received does
  bool cuda = false;            // that memory is a GPU's
  bool opens = true;            // and a peer's can be opened
  bool pushes = true;           // and the lane that copies between GPUs is chosen
  bool rough = false;           // every call of a socket moves few bytes, and now and then none
  std::uint32_t few_peers = 2;  // that are asked one by one
  std::uint64_t closely_ns = 5'000;  // packets no further apart go together
  bool encrypts = false;             // with TLS
  // Over TCP. Long, as on a busy machine a thread may not run for seconds.
  std::uint64_t refused_ns = 60'000'000'000u;
};

void PrintTo(const Lane& lane, std::ostream* out);

class Job {
 public:
  // `prepare` sees the adapters in memory before a process opens them.
  Job(const Lane& lane, int size, const ProtocolLimits& limits = {},
      const std::function<void(verbs_driver::FakeFabric&)>& prepare = {});
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  int size() const { return static_cast<int>(parties_.size()); }
  verbs_driver::FakeFabric& fabric() { return fabric_; }
  linux_driver::FakeInternet& internet() { return *internet_; }
  // All processes end.
  void close() { parties_.clear(); }
  Party& operator[](int rank) { return *parties_[static_cast<std::size_t>(rank)]; }

  // Everybody makes progress until `done`; false when nothing has happened for a long time.
  bool run_until(const std::function<bool()>& done);
  // Until these operations are done.
  bool finish(std::initializer_list<Operation*> operations);
  bool finish(const std::vector<Operation*>& operations);
  // Until nobody finds anything to do.
  void settle(int rounds = 100);
  static constexpr int kFewRounds = 5;  // for hundreds of times
  // One party makes progress once; they take turns.
  void step();
  // The process of `rank` ends: it does nothing any more, and everybody else is told.
  void kill(int rank);

 private:
  bool run_until_idle(const std::function<bool()>& done, bool* happened);

  FakeNetwork network_;
  verbs_driver::FakeFabric fabric_;
  std::shared_ptr<linux_driver::FakeInternet> internet_ =
      std::make_shared<linux_driver::FakeInternet>();
  std::vector<std::unique_ptr<Party>> parties_;
  std::vector<bool> dead_;
  bool has_threads_;
  std::size_t turn_ = 0;
};

}  // namespace mooncake_mpi::testing
