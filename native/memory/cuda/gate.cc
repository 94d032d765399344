#include "memory/cuda/gate.h"

#include <algorithm>
#include <new>
#include <thread>

#include "base/clock.h"

namespace mooncake_mpi::cuda {
namespace {

constexpr std::size_t kGateBytes = 64;  // a line each
constexpr std::size_t kGates = 256;     // in one piece of pinned memory

}  // namespace

void Gate::open() noexcept {
  if (word_ == nullptr) return;
  word_->store(value_, std::memory_order_release);
  gates_->give_back(*word_);
  gates_->count_opened(number_);
  word_ = nullptr;
}

Result<Gate> Gates::close(int device, cuda_driver::StreamHandle stream) {
  auto word = take_word(device);
  if (!word) return word.failure();
  const std::uint32_t value = word.value()->load(std::memory_order_relaxed) + 1;
  const std::scoped_lock lock(placing_);
  Gate gate;
  // Before the stream waits: who copies from now on minds it.
  gate.number_ = count_closed();
  gate.gates_ = this;
  gate.word_ = word.value();
  gate.value_ = value;
  auto waits = driver_.wait_in(device, stream, *word.value(), value);
  if (!waits) return waits.failure();
  return gate;
}

Result<std::atomic<std::uint32_t>*> Gates::take_word(int device) {
  std::unique_lock lock(mutex_);
  while (free_.empty()) {
    // The driver may take its time, and those who open gates hold the engine's lock.
    lock.unlock();
    auto memory = driver_.allocate_pinned(device, kGates * kGateBytes);
    if (!memory) return memory.failure();
    lock.lock();
    free_.reserve(words_ + kGates);  // give_back() does not allocate
    words_ += kGates;
    for (std::size_t i = 0; i < kGates; ++i) {
      free_.push_back(new (memory.value() + i * kGateBytes) std::atomic<std::uint32_t>(0));
    }
  }
  std::atomic<std::uint32_t>* word = free_.back();
  free_.pop_back();
  return word;
}

std::uint64_t Gates::count_closed(std::uint64_t limit_ns) noexcept {
  std::uint64_t number = 0;
  {
    const std::scoped_lock lock(mutex_);
    number = latest_.fetch_add(1, std::memory_order_acq_rel) + 1;
    try {
      standing_.push_back(number);
    } catch (const std::bad_alloc&) {  // those behind it take it to be over
    }
  }
  closed_.fetch_add(1, std::memory_order_seq_cst);
  if (in_driver_.load(std::memory_order_seq_cst) == 0) return number;
  const std::uint64_t began_ns = now_ns();
  while (in_driver_.load(std::memory_order_seq_cst) != 0 && now_ns() - began_ns < limit_ns)
    std::this_thread::yield();
  return number;
}

void Gates::count_opened(std::uint64_t number) noexcept {
  closed_.fetch_sub(1, std::memory_order_seq_cst);
  const std::scoped_lock lock(mutex_);
  std::erase(standing_, number);
}

bool Gates::is_oldest(std::uint64_t number) const noexcept {
  const std::scoped_lock lock(mutex_);
  return std::ranges::none_of(standing_, [&](std::uint64_t other) { return other < number; });
}

bool Gates::enter_driver() noexcept {
  in_driver_.fetch_add(1, std::memory_order_seq_cst);
  if (closed_.load(std::memory_order_seq_cst) == 0) return true;
  leave_driver();
  return false;
}

void Gates::give_back(std::atomic<std::uint32_t>& word) noexcept {
  std::scoped_lock lock(mutex_);
  free_.push_back(&word);
}

}  // namespace mooncake_mpi::cuda
