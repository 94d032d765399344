// The fake's device: what it makes, and the events that it raises. Any thread: calls of the
// interface take the fabric's lock, the rest is called with it held.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "drivers/verbs/fake_objects.h"

namespace mooncake_mpi::verbs_driver {
namespace {

Failure failure(const char* step, int error) {
  return {error == ENOMEM ? Error::kNoMemory : Error::kUnreachable,
          std::string(step) + ": " + std::strerror(error)};
}

void drain(int descriptor) noexcept {
  std::uint64_t count;
  while (read(descriptor, &count, sizeof count) > 0) {
  }
}

void signal(int descriptor) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(descriptor, &one, sizeof one);
}

}  // namespace

FakeDevice::FakeDevice(FakeFabric& fabric, FakeFabric::Port& port)
    : FakeObject(fabric, fabric.live_),
      port_(port),
      completion_event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      port_event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  port.opened.push_back(this);
}

FakeDevice::~FakeDevice() {
  const std::lock_guard lock(fabric_.mutex_);
  std::erase(port_.opened, this);
  close(completion_event_);
  close(port_event_);
}

PortInfo FakeDevice::describe(const FakeFabric::Port& port) {
  PortInfo info;
  info.device = "fake" + std::to_string(port.rail);
  info.port = 1;
  info.active = port.active;
  info.state = port.active ? "active" : "down";
  info.link = LinkLayer::kEthernet;
  info.mtu_bytes = 1024;
  info.numa_node = port.numa_node;
  info.gids = {{.index = 1, .gid = port.gid, .type = GidType::kRoceV2}};
  return info;
}

Result<PortInfo> FakeDevice::query_port(std::uint8_t port) {
  const std::lock_guard lock(fabric_.mutex_);
  if (port != 1) return failure("query_port", EINVAL);
  return describe(port_);
}

Result<std::unique_ptr<MemoryRegion>> FakeDevice::register_memory(void* address, std::size_t bytes,
                                                                  unsigned access) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kRegisterMemory); error != 0) {
    return failure("register_memory", error);
  }
  return std::unique_ptr<MemoryRegion>(std::make_unique<FakeMemoryRegion>(
      *this, fabric_, static_cast<std::byte*>(address), bytes, access));
}

Result<std::unique_ptr<CompletionQueue>> FakeDevice::create_completion_queue(
    std::uint32_t entries) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kCreateCompletionQueue); error != 0) {
    return failure("create_completion_queue", error);
  }
  return std::unique_ptr<CompletionQueue>(
      std::make_unique<FakeCompletionQueue>(*this, fabric_, entries));
}

Result<std::unique_ptr<SharedReceiveQueue>> FakeDevice::create_shared_receive_queue(
    std::uint32_t entries) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kCreateSharedReceiveQueue); error != 0) {
    return failure("create_shared_receive_queue", error);
  }
  return std::unique_ptr<SharedReceiveQueue>(
      std::make_unique<FakeSharedReceiveQueue>(fabric_, entries));
}

Result<std::unique_ptr<QueuePair>> FakeDevice::create_queue_pair(const QueuePairOptions& options) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kCreateQueuePair); error != 0) {
    return failure("create_queue_pair", error);
  }
  return std::unique_ptr<QueuePair>(std::make_unique<FakeQueuePair>(*this, fabric_, options));
}

Result<std::unique_ptr<AddressHandle>> FakeDevice::create_address_handle(const Route& route) {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kCreateAddressHandle); error != 0) {
    return failure("create_address_handle", error);
  }
  return std::unique_ptr<AddressHandle>(std::make_unique<FakeAddressHandle>(fabric_, route));
}

void FakeDevice::raise(CompletionQueue& queue) {
  completion_events.push_back(&queue);
  signal(completion_event_);
}

void FakeDevice::raise(PortEvent event) {
  port_events_.push_back(event);
  signal(port_event_);
}

CompletionQueue* FakeDevice::take_completion_event() noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (completion_events.empty()) {
    drain(completion_event_);
    return nullptr;
  }
  CompletionQueue* queue = completion_events.front();
  completion_events.pop_front();
  return queue;
}

std::optional<PortEvent> FakeDevice::take_event() noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (port_events_.empty()) {
    drain(port_event_);
    return std::nullopt;
  }
  const PortEvent event = port_events_.front();
  port_events_.pop_front();
  return event;
}

FakeMemoryRegion::FakeMemoryRegion(FakeDevice& device, FakeFabric& fabric, std::byte* address,
                                   std::size_t bytes, unsigned access)
    : FakeObject(fabric, fabric.live_),
      device_(device),
      address_(address),
      bytes_(bytes),
      access_(access),
      key_(fabric.next_key_) {
  fabric.next_key_ += 2;
  device_.regions[key_] = this;
}

FakeMemoryRegion::~FakeMemoryRegion() {
  const std::lock_guard lock(fabric_.mutex_);
  device_.regions.erase(key_);
}

FakeAddressHandle::FakeAddressHandle(FakeFabric& fabric, const Route& route)
    : FakeObject(fabric, fabric.live_), gid(route.gid) {}

FakeAddressHandle::~FakeAddressHandle() = default;

FakeCompletionQueue::FakeCompletionQueue(FakeDevice& device, FakeFabric& fabric,
                                         std::uint32_t entries)
    : FakeObject(fabric, fabric.live_), device_(device), entries_(entries) {}

FakeCompletionQueue::~FakeCompletionQueue() {
  const std::lock_guard lock(fabric_.mutex_);
  device_.completion_events.erase(this);
}

int FakeCompletionQueue::poll(std::span<WorkCompletion> completions) noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kPoll); error != 0) return -error;
  const std::size_t count = std::min(completions.size(), completions_.size());
  for (std::size_t i = 0; i < count; ++i) {
    completions[i] = completions_.front();
    completions_.pop_front();
  }
  return static_cast<int>(count);
}

int FakeCompletionQueue::arm() noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  armed_ = true;
  return 0;
}

void FakeCompletionQueue::push(const WorkCompletion& completion) {
  if (completions_.size() == entries_) std::abort();  // an overrun kills a real queue
  completions_.push_back(completion);
  if (armed_) {
    armed_ = false;
    device_.raise(*this);
  }
}

FakeSharedReceiveQueue::FakeSharedReceiveQueue(FakeFabric& fabric, std::uint32_t entries)
    : FakeObject(fabric, fabric.live_), requests(entries), entries_(entries) {}

FakeSharedReceiveQueue::~FakeSharedReceiveQueue() = default;

int FakeSharedReceiveQueue::post_receive(const ReceiveRequest& request) noexcept {
  const std::lock_guard lock(fabric_.mutex_);
  if (const int error = fabric_.fault(Step::kPostReceive); error != 0) return error;
  if (requests.size() == entries_) return ENOMEM;
  requests.push_back(request);
  return 0;
}

}  // namespace mooncake_mpi::verbs_driver
