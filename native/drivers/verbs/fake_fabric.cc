// The fabric of adapters in memory: its ports and providers, and the failures that a test asks for.
// Any thread; the calls of its interface take the fabric's lock, and the rest is called with it
// held.
#include "drivers/verbs/fake_fabric.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "drivers/verbs/fake_objects.h"

namespace mooncake_mpi::verbs_driver {

class FakeProvider final : public Provider {
 public:
  FakeProvider(FakeFabric& fabric, int process) : fabric_(fabric), process_(process) {}

  Result<std::vector<PortInfo>> ports() override {
    const std::lock_guard lock(fabric_.mutex_);
    std::vector<PortInfo> found;
    for (const auto& port : fabric_.ports_) {
      if (port.process == process_) found.push_back(FakeDevice::describe(port));
    }
    return found;
  }

  Result<std::unique_ptr<Device>> open(const std::string& name) override {
    const std::lock_guard lock(fabric_.mutex_);
    if (const int error = fabric_.fault(Step::kOpen); error != 0) {
      return Failure{Error::kUnreachable, std::string("open: ") + std::strerror(error)};
    }
    for (auto& port : fabric_.ports_) {
      if (port.process == process_ && name == "fake" + std::to_string(port.rail)) {
        return std::unique_ptr<Device>(std::make_unique<FakeDevice>(fabric_, port));
      }
    }
    return Failure{Error::kUnreachable, "no RDMA device is called " + name};
  }

 private:
  FakeFabric& fabric_;
  int process_;
};

std::unique_ptr<Provider> FakeFabric::make_provider(int rails) {
  const std::lock_guard lock(mutex_);
  const int process = ports_.empty() ? 0 : ports_.back().process + 1;
  for (int rail = 0; rail < rails; ++rail) {
    Port& port = ports_.emplace_back();
    port.process = process;
    port.rail = rail;
    port.active =
        std::ranges::find(down_at_first_, std::pair(process, rail)) == down_at_first_.end();
    if (spread_over_nodes_) port.numa_node = rail;
    // An IPv4 address in a GID: 10.0.<rail>.<process>.
    port.gid[10] = port.gid[11] = std::byte{0xff};
    port.gid[12] = std::byte{10};
    port.gid[14] = static_cast<std::byte>(rail);
    port.gid[15] = static_cast<std::byte>(process + 1);
  }
  return std::make_unique<FakeProvider>(*this, process);
}

void FakeFabric::fail(Step step, std::uint64_t skip, std::uint64_t times, int error) {
  const std::lock_guard lock(mutex_);
  faults_[static_cast<std::size_t>(step)] = {skip, times, error};
}

void FakeFabric::fail_completions(std::uint64_t skip, std::uint64_t times, Status status) {
  const std::lock_guard lock(mutex_);
  completion_fault_ = {skip, times, 0};
  completion_status_ = status;
}

void FakeFabric::lose_completions(std::uint64_t times) {
  const std::lock_guard lock(mutex_);
  lost_completions_ = times;
}

void FakeFabric::drop_datagrams(std::uint64_t times) {
  const std::lock_guard lock(mutex_);
  dropped_datagrams_ = times;
}

void FakeFabric::hold(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
  if (!held) execute_all(SIZE_MAX);
}

std::size_t FakeFabric::let_go(std::size_t count) {
  const std::lock_guard lock(mutex_);
  return execute_all(count);
}

std::size_t FakeFabric::execute_all(std::size_t count) {
  std::size_t done = 0;
  for (bool any = true; any && done < count;) {
    any = false;
    for (auto& [number, pair] : pairs_) {
      if (pair->pending_.empty() || done == count) continue;
      execute(*pair);
      ++done;
      any = true;
    }
  }
  return done;
}

// The oldest request of a pair.
void FakeFabric::execute(FakeQueuePair& pair) {
  FakeQueuePair::Pending pending = pair.pending_.front();
  pair.pending_.pop_front();
  pair.complete(pending.request, pair.transmit(pending));
}

void FakeFabric::set_port(int process, int rail, bool active) {
  const std::lock_guard lock(mutex_);
  for (Port& port : ports_) {
    if (port.process != process || port.rail != rail || port.active == active) continue;
    port.active = active;
    for (FakeDevice* device : port.opened) {
      device->raise(PortEvent{active ? DeviceEvent::kPortActive : DeviceEvent::kPortDown, 1});
    }
  }
}

void FakeFabric::inject(std::uint32_t queue_pair, std::uint32_t queue_key,
                        std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = pairs_.find(queue_pair);
  if (found == pairs_.end() || found->second->options_.queue_key != queue_key) return;
  found->second->receive(*found->second, bytes, 40);
}

std::vector<FakeFabric::Recorded> FakeFabric::recorded() const {
  const std::lock_guard lock(mutex_);
  return recorded_;
}

int FakeFabric::fault(Step step) {
  const auto index = static_cast<std::size_t>(step);
  ++calls_[index];
  Fault& fault = faults_[index];
  if (fault.times == 0) return 0;
  if (fault.skip != 0) {
    --fault.skip;
    return 0;
  }
  --fault.times;
  return fault.error;
}

FakeFabric::Port* FakeFabric::find(const Gid& gid) {
  for (Port& port : ports_) {
    if (port.gid == gid) return &port;
  }
  return nullptr;
}

FakeCounters FakeFabric::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::size_t FakeFabric::live() const {
  return live_.load();
}

std::uint64_t FakeFabric::calls(Step step) const {
  const std::lock_guard lock(mutex_);
  return calls_[static_cast<std::size_t>(step)];
}

}  // namespace mooncake_mpi::verbs_driver
