// RDMA in memory, for tests: the adapters of a few processes that are objects of one program, and
// the network between them. What is posted is executed at once, or, while the fabric is held, when
// it is let go. Any step can be made to fail. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "drivers/verbs/verbs.h"

namespace mooncake_mpi::verbs_driver {

class FakeDevice;
class FakeQueuePair;

// What can be made to fail.
enum class Step : std::uint8_t {
  kOpen,
  kRegisterMemory,
  kCreateCompletionQueue,
  kCreateSharedReceiveQueue,
  kCreateQueuePair,
  kCreateAddressHandle,
  kConnect,
  kPostSend,
  kPostReceive,
  kPoll,
};
inline constexpr std::size_t kSteps = static_cast<std::size_t>(Step::kPoll) + 1;

struct FakeCounters {
  std::uint64_t receiver_not_ready = 0;
  std::uint64_t reads = 0;
  std::array<std::uint64_t, 8> reads_by_rail{};  // of the reader; hardware allocates nothing
  std::uint64_t sends = 0;
  std::uint64_t datagrams = 0;
  std::uint64_t inlined = 0;
  std::uint64_t refused = 0;  // accesses to memory that is not open
  std::uint64_t cut_off = 0;  // packets and READs on a rail that is cut
};

class FakeFabric {
 public:
  FakeFabric() = default;
  FakeFabric(const FakeFabric&) = delete;
  FakeFabric& operator=(const FakeFabric&) = delete;

  // The adapters of one process: `rails` devices with one port each, named fake0, fake1, ...
  std::unique_ptr<Provider> make_provider(int rails);

  // The calls of `step` after the next `skip` ones fail with `error`, `times` of them.
  void fail(Step step, std::uint64_t skip, std::uint64_t times, int error);
  // The next posted sends or READs complete with `status`, and their queue pair fails.
  void fail_completions(std::uint64_t skip, std::uint64_t times, Status status);
  void lose_completions(std::uint64_t times);
  void drop_datagrams(std::uint64_t times);
  void hold(bool held);
  // Executes up to `count` of the held requests.
  std::size_t let_go(std::size_t count);
  // Of processes that are made later: ports are down, or each adapter is at a NUMA node of its own.
  void begin_with_port_down(int process, int rail) { down_at_first_.emplace_back(process, rail); }
  void spread_over_nodes() { spread_over_nodes_ = true; }
  // Rail `rail` of process `process`, in the order of make_provider().
  void set_port(int process, int rail, bool active);
  // Its ports are up and datagrams arrive, but connected queue pairs reach nobody; -1: every one
  // does.
  void cut(int rail) { cut_rail_ = rail; }
  void set_limits(const Limits& limits) { limits_ = limits; }
  void set_inline_bytes(std::uint32_t bytes) { inline_bytes_ = bytes; }
  // A datagram from nowhere, to a queue pair.
  void inject(std::uint32_t queue_pair, std::uint32_t queue_key, std::span<const std::byte> bytes);

  // Every datagram that is sent from now on, for inject().
  struct Recorded {
    std::uint32_t queue_pair = 0;
    std::uint32_t queue_key = 0;
    std::vector<std::byte> bytes;
  };
  void record_datagrams() { recording_ = true; }
  std::vector<Recorded> recorded() const;

  FakeCounters counters() const;
  // Objects that are open: zero when all was closed.
  std::size_t live() const;
  std::uint64_t calls(Step step) const;

 private:
  friend class FakeProvider;
  friend class FakeDevice;
  friend class FakeQueuePair;
  friend class FakeCompletionQueue;
  friend class FakeSharedReceiveQueue;
  friend class FakeMemoryRegion;
  friend class FakeAddressHandle;

  struct Port {
    int process = 0;
    int rail = 0;
    bool active = true;
    int numa_node = -1;
    Gid gid{};
    std::vector<FakeDevice*> opened;
  };
  struct Fault {
    std::uint64_t skip = 0;
    std::uint64_t times = 0;
    int error = 0;
  };

  // All below with the mutex held.
  int fault(Step step);
  Port* find(const Gid& gid);
  void execute(FakeQueuePair& pair);
  std::size_t execute_all(std::size_t count);

  mutable std::recursive_mutex mutex_;
  std::deque<Port> ports_;
  std::map<std::uint32_t, FakeQueuePair*> pairs_;
  std::uint32_t next_number_ = 100;
  std::uint32_t next_key_ = 7000;
  Fault faults_[kSteps];
  std::uint64_t calls_[kSteps] = {};
  Fault completion_fault_;
  Status completion_status_ = Status::kOther;
  std::uint64_t lost_completions_ = 0;
  std::uint64_t dropped_datagrams_ = 0;
  bool recording_ = false;
  std::vector<Recorded> recorded_;
  std::atomic<int> cut_rail_{-1};
  bool held_ = false;
  bool spread_over_nodes_ = false;
  std::vector<std::pair<int, int>> down_at_first_;
  Limits limits_{.send_depth = 4096, .shared_depth = 4096, .completions = 65536, .read_depth = 16};
  std::uint32_t inline_bytes_ = 128;
  FakeCounters counters_;
  std::atomic<std::size_t> live_{0};
};

}  // namespace mooncake_mpi::verbs_driver
