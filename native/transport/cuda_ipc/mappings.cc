#include "transport/cuda_ipc/mappings.h"

#include "base/start_thread.h"

namespace mooncake_mpi::cuda_ipc {

// A peer's memory lives for as long as somebody has it open, whatever the peer does.
Mapping::~Mapping() {
  if (state() != State::kOpen) return;
  try {
    memory_.queue().defer([&memory = memory_, device = device_, base = base_] {
      memory.driver().close_memory(device, base);
    });
  } catch (const std::bad_alloc&) {  // then it stays open until the process ends
  }
}

void Opener::open(std::shared_ptr<Mapping> mapping, const cuda_driver::IpcHandle& handle) {
  std::scoped_lock lock(mutex_);
  if (!thread_.joinable() && (stopping_ || !start_thread(thread_, [this] { run(); }))) {
    mapping->state_.store(Mapping::State::kRefused, std::memory_order_release);
    return;
  }
  orders_.push_back({std::move(mapping), handle});
  changed_.notify_one();
}

void Opener::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !orders_.empty(); });
    if (stopping_) break;
    Order order = std::move(orders_.front());
    orders_.pop_front();
    lock.unlock();
    Mapping& mapping = *order.mapping;
    auto opened = mapping.memory_.driver().open_memory(mapping.device_, order.handle);
    if (opened) {
      mapping.base_ = opened.value();
    } else {
      mapping.refusal_ = opened.failure().message;
    }
    mapping.state_.store(opened ? Mapping::State::kOpen : Mapping::State::kRefused,
                         std::memory_order_release);
    order.mapping.reset();
    if (waker_ != nullptr) waker_->wake();
    lock.lock();
  }
  for (const Order& order : orders_)
    order.mapping->state_.store(Mapping::State::kRefused, std::memory_order_release);
  orders_.clear();
}

void Opener::stop() noexcept {
  {
    std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void PeerMemory::learn(const wire::DeviceMemory& memory) {
  std::erase_if(entries_, [&](const auto& known) {
    const wire::DeviceMemory& other = known.second.memory;
    return other.base < memory.base + memory.bytes && memory.base < other.base + other.bytes;
  });
  entries_[memory.allocation] = {memory, {}};
}

bool PeerMemory::has(std::uint64_t allocation, std::uint64_t offset,
                     std::uint64_t length) const noexcept {
  const auto found = entries_.find(allocation);
  return found != entries_.end() && offset + length <= found->second.memory.bytes;
}

std::shared_ptr<Mapping> PeerMemory::map(std::uint64_t allocation, int device,
                                         cuda::GpuMemory& memory, Opener& opener) {
  Entry& entry = entries_.at(allocation);
  std::shared_ptr<Mapping>& known = entry.mappings[device];
  if (known == nullptr) {
    auto mapping = std::make_shared<Mapping>(memory, device);
    opener.open(mapping, entry.memory.handle);
    known = std::move(mapping);  // it was ordered: there was memory for that
  }
  return known;
}

cuda_driver::DeviceAddress PeerMemory::base_of(std::uint64_t allocation) const noexcept {
  const auto found = entries_.find(allocation);
  return found != entries_.end() ? found->second.memory.base : 0;
}

}  // namespace mooncake_mpi::cuda_ipc
