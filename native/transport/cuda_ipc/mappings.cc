#include "transport/cuda_ipc/mappings.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "base/start_thread.h"

namespace mooncake_mpi::cuda_ipc {

// A peer's memory lives for as long as somebody has it open, whatever the peer does.
Mapping::~Mapping() {
  if (state() != State::kOpen) {
    end_->closed.store(true, std::memory_order_release);
    return;
  }
  try {
    opener_.close(*this);
  } catch (const std::bad_alloc&) {  // then it stays open until the process ends
  }
}

void Opener::open(std::shared_ptr<Mapping> mapping, const cuda_driver::IpcHandle& handle,
                  Predecessors after) {
  std::scoped_lock lock(mutex_);
  if (!thread_.joinable() && (stopping_ || !start_thread(thread_, [this] { run(); }))) {
    mapping->state_.store(Mapping::State::kRefused, std::memory_order_release);
    return;
  }
  orders_.push_back({std::move(mapping), handle, std::move(after), {}, {}, nullptr});
  changed_.notify_one();
}

// By the thread, which may have to open what comes next at the same addresses; without one, by
// whoever makes progress.
void Opener::close(Mapping& mapping) {
  auto close = [&memory = mapping.memory_, device = mapping.device_, base = mapping.base_,
                end = mapping.end_] {
    memory.driver().close_memory(device, base);
    end->closed.store(true, std::memory_order_release);
  };
  std::scoped_lock lock(mutex_);
  if (!thread_.joinable() || stopping_) {
    mapping.memory_.queue().defer(std::move(close));
    return;
  }
  orders_.push_back({{}, {}, {}, std::move(close), mapping.end_, &mapping.memory_.gates()});
  changed_.notify_one();
}

std::deque<Opener::Order>::iterator Opener::next_order() noexcept {
  return std::ranges::find_if(orders_, [](const Order& order) {
    return std::ranges::all_of(order.after, [](const auto& stale) {
      return stale->closed.load(std::memory_order_acquire);
    });
  });
}

// Whether something waits for it to be closed.
bool Opener::is_in_the_way(const Order& order) const noexcept {
  return std::ranges::any_of(orders_, [&](const Order& other) {
    return std::ranges::find(other.after, order.end) != other.after.end();
  });
}

// What is to be opened goes first.
void Opener::put_off(Order order, std::unique_lock<std::mutex>& lock) noexcept {
  constexpr std::chrono::milliseconds kLater{2};
  try {
    orders_.push_back(std::move(order));
  } catch (const std::bad_alloc&) {  // then it stays open until the process ends
  }
  const auto next = next_order();
  if (next == orders_.end() || next->close) changed_.wait_for(lock, kLater);
}

void Opener::open(Mapping& mapping, const cuda_driver::IpcHandle& handle) {
  auto opened = mapping.memory_.driver().open_memory(mapping.device_, handle);
  if (opened) {
    // A kernel that goes beyond the end is the end of its context, so the peer's word is not
    // enough.
    auto found = mapping.memory_.driver().locate(opened.value());
    if (found && found.value().on_device && found.value().bytes < mapping.bytes_) {
      mapping.memory_.driver().close_memory(mapping.device_, opened.value());
      opened = Failure{Error::kBuffer, "the peer's buffer is smaller than it says"};
    }
  }
  if (opened) {
    mapping.base_ = opened.value();
  } else {
    mapping.refusal_ = opened.failure().message;
  }
  mapping.state_.store(opened ? Mapping::State::kOpen : Mapping::State::kRefused,
                       std::memory_order_release);
}

void Opener::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || next_order() != orders_.end(); });
    if (stopping_) break;
    const auto next = next_order();
    Order order = std::move(*next);
    orders_.erase(next);
    const bool alone = order.gates != nullptr && order.gates->enter_driver();
    if (order.close && !alone && !is_in_the_way(order)) {
      put_off(std::move(order), lock);
      continue;
    }
    lock.unlock();
    if (order.close) {
      order.close();
    } else {
      open(*order.mapping, order.handle);
      order.mapping.reset();
      if (waker_ != nullptr) waker_->wake();
    }
    if (alone) order.gates->leave_driver();
    lock.lock();
  }
  // Mappings that end with their orders go without a thread.
  std::deque<Order> left;
  left.swap(orders_);
  lock.unlock();
  for (const Order& order : left) {
    if (order.close) {
      order.close();
    } else {
      order.mapping->state_.store(Mapping::State::kRefused, std::memory_order_release);
    }
  }
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
  Predecessors after;
  std::erase_if(entries_, [&](const auto& known) {
    const auto& [other, mappings, before] = known.second;
    if (other.base >= memory.base + memory.bytes || memory.base >= other.base + other.bytes) {
      return false;
    }
    after.insert(after.end(), before.begin(), before.end());
    for (const auto& [device, mapping] : mappings)
      after.push_back(mapping->end());
    return true;
  });
  std::erase_if(after, [](const auto& stale) { return stale->closed.load(); });
  entries_[memory.allocation] = {memory, {}, std::move(after)};
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
    auto mapping = std::make_shared<Mapping>(memory, opener, device, entry.memory.bytes);
    opener.open(mapping, entry.memory.handle, entry.after);
    known = std::move(mapping);  // it was ordered: there was memory for that
  }
  return known;
}

cuda_driver::DeviceAddress PeerMemory::base_of(std::uint64_t allocation) const noexcept {
  const auto found = entries_.find(allocation);
  return found != entries_.end() ? found->second.memory.base : 0;
}

}  // namespace mooncake_mpi::cuda_ipc
