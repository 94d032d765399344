// The objects of the fake provider; see fake_fabric.h. Any thread: calls of the interface take the
// fabric's lock, the rest is called with it held.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "drivers/verbs/fake_fabric.h"

namespace mooncake_mpi::verbs_driver {

// A queue that has its memory from the start, so that tests see what the lane itself allocates.
template <class T>
class FakeQueue {
 public:
  // Twice what is in it at most: items move to the front once in `most` turns.
  explicit FakeQueue(std::size_t most) { items_.reserve(2 * most); }
  bool empty() const noexcept { return first_ == items_.size(); }
  std::size_t size() const noexcept { return items_.size() - first_; }
  T& front() noexcept { return items_[first_]; }
  void push_back(T item) {
    if (first_ != 0 && items_.size() == items_.capacity()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
    items_.push_back(std::move(item));
  }
  void erase(const T& item) {
    items_.erase(
        std::remove(items_.begin() + static_cast<std::ptrdiff_t>(first_), items_.end(), item),
        items_.end());
  }
  void pop_front() noexcept {
    if (++first_ != items_.size()) return;
    items_.clear();
    first_ = 0;
  }

 private:
  std::vector<T> items_;
  std::size_t first_ = 0;
};

// Counts what is open.
class FakeObject {
 public:
  FakeObject(FakeFabric& fabric, std::atomic<std::size_t>& live) : fabric_(fabric), live_(live) {
    ++live_;
  }
  ~FakeObject() { --live_; }
  FakeObject(const FakeObject&) = delete;
  FakeObject& operator=(const FakeObject&) = delete;

 protected:
  FakeFabric& fabric_;
  std::atomic<std::size_t>& live_;
};

class FakeMemoryRegion final : public MemoryRegion, private FakeObject {
 public:
  FakeMemoryRegion(FakeDevice& device, FakeFabric& fabric, std::byte* address, std::size_t bytes,
                   unsigned access);
  ~FakeMemoryRegion() override;
  std::uint32_t local_key() const noexcept override { return key_; }
  std::uint32_t remote_key() const noexcept override { return key_ + 1; }
  bool covers(const std::byte* address, std::size_t bytes) const noexcept {
    return address >= address_ && bytes <= bytes_ &&
           static_cast<std::size_t>(address - address_) <= bytes_ - bytes;
  }
  unsigned access() const noexcept { return access_; }

 private:
  FakeDevice& device_;
  std::byte* address_;
  std::size_t bytes_;
  unsigned access_;
  std::uint32_t key_;
};

class FakeAddressHandle final : public AddressHandle, private FakeObject {
 public:
  FakeAddressHandle(FakeFabric& fabric, const Route& route);
  ~FakeAddressHandle() override;
  Gid gid{};
};

class FakeCompletionQueue final : public CompletionQueue, private FakeObject {
 public:
  FakeCompletionQueue(FakeDevice& device, FakeFabric& fabric, std::uint32_t entries);
  ~FakeCompletionQueue() override;
  int poll(std::span<WorkCompletion> completions) noexcept override;
  int arm() noexcept override;
  void push(const WorkCompletion& completion);

 private:
  FakeDevice& device_;
  std::uint32_t entries_;
  bool armed_ = false;
  FakeQueue<WorkCompletion> completions_{entries_};
};

class FakeSharedReceiveQueue final : public SharedReceiveQueue, private FakeObject {
 public:
  FakeSharedReceiveQueue(FakeFabric& fabric, std::uint32_t entries);
  ~FakeSharedReceiveQueue() override;
  int post_receive(const ReceiveRequest& request) noexcept override;
  FakeQueue<ReceiveRequest> requests;

 private:
  std::uint32_t entries_;
};

class FakeQueuePair final : public QueuePair, private FakeObject {
 public:
  FakeQueuePair(FakeDevice& device, FakeFabric& fabric, const QueuePairOptions& options);
  ~FakeQueuePair() override;
  std::uint32_t number() const noexcept override { return number_; }
  std::uint32_t inline_bytes() const noexcept override;
  Result<bool> connect(const ConnectOptions& options) override;
  void fail() noexcept override;
  int post_send(const SendRequest& request) noexcept override;
  int post_receive(const ReceiveRequest& request) noexcept override;

 private:
  friend class FakeFabric;
  static constexpr std::size_t kMaxInline = 256;
  struct Pending {
    SendRequest request;
    std::array<std::byte, kMaxInline> inlined;  // a copy of the request's bytes
    Gid gid{};                                  // of a datagram
  };

  bool connected() const noexcept { return options_.kind == QueuePairOptions::Kind::kConnected; }
  FakeQueue<ReceiveRequest>& receive_queue();
  Status transmit(Pending& pending);
  Status send(Pending& pending, FakeQueuePair& remote);
  Status access(const Pending& pending, FakeQueuePair& remote);
  void datagram(Pending& pending);
  bool receive(FakeQueuePair& from, std::span<const std::byte> bytes, std::size_t offset);
  void complete(const SendRequest& request, Status status);

  FakeDevice& device_;
  QueuePairOptions options_;
  std::uint32_t number_;
  bool ready_ = false;
  bool failed_ = false;
  ConnectOptions remote_;
  std::uint32_t outstanding_ = 0;  // posted and unsignaled count until a later one completes
  FakeQueue<Pending> pending_{options_.send_depth};
  FakeQueue<ReceiveRequest> receives_{options_.receive_depth};
};

class FakeDevice final : public Device, private FakeObject {
 public:
  FakeDevice(FakeFabric& fabric, FakeFabric::Port& port);
  ~FakeDevice() override;
  const Limits& limits() const noexcept override { return fabric_.limits_; }
  Result<PortInfo> query_port(std::uint8_t port) override;
  Result<std::unique_ptr<MemoryRegion>> register_memory(void* address, std::size_t bytes,
                                                        unsigned access) override;
  Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t entries) override;
  Result<std::unique_ptr<SharedReceiveQueue>> create_shared_receive_queue(
      std::uint32_t entries) override;
  Result<std::unique_ptr<QueuePair>> create_queue_pair(const QueuePairOptions& options) override;
  Result<std::unique_ptr<AddressHandle>> create_address_handle(const Route& route) override;
  int completion_descriptor() const noexcept override { return completion_event_; }
  CompletionQueue* take_completion_event() noexcept override;
  int event_descriptor() const noexcept override { return port_event_; }
  std::optional<PortEvent> take_event() noexcept override;

  static PortInfo describe(const FakeFabric::Port& port);
  FakeFabric::Port& port() noexcept { return port_; }
  void raise(CompletionQueue& queue);
  void raise(PortEvent event);

  std::map<std::uint32_t, FakeMemoryRegion*> regions;  // by local key
  FakeQueue<CompletionQueue*> completion_events{1024};

 private:
  FakeFabric::Port& port_;
  int completion_event_;
  int port_event_;
  std::deque<PortEvent> port_events_;
};

}  // namespace mooncake_mpi::verbs_driver
