#include "memory/cuda/resident.h"

#include <new>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::cuda {

std::atomic<int> Resident::allowed_{0};

bool Resident::make() noexcept {
  if (board_ != nullptr) return true;
  if (refused_) return false;
  try {
    refused_ = true;
    if (!kernels_.are_on(device_)) {
      refused_ = false;  // perhaps the next time
      return false;
    }
    auto memory = driver_.allocate_pinned(device_, sizeof(Board));
    if (!memory) return false;
    auto stream = driver_.make_stream(device_);
    if (!stream) return false;
    stream_ = stream.value();
    board_ = new (memory.value()) Board;
    shown_.device = device_;
    shown_.word = &board_->done;
    refused_ = false;
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

bool Resident::launch(std::uint32_t turn) noexcept {
  board_->has_left.store(0, std::memory_order_relaxed);
  try {
    const auto handle = reinterpret_cast<cuda_driver::StreamHandle>(stream_->handle);
    const auto launched = kernels_.stay(
        device_, handle,
        {board_->commands.data(), kSlots, turn, board_->done, board_->left_at, kIdleNs});
    running_ = launched.ok();
  } catch (const std::bad_alloc&) {
    running_ = false;
  }
  refused_ |= !running_;
  return running_;
}

bool Resident::push(const Order& order, std::uint32_t& ticket) noexcept {
  if (refused_) return false;
  const std::uint64_t now = now_ns();
  const bool close = now - std::exchange(last_ns_, now) < kCloseNs;
  if (lost_ || !look(true)) return false;
  if (!running_) {
    // It comes for the next one: to wait for it would take this one longer.
    if (close && make()) launch(turn_ + 1);
    return false;
  }
  const std::uint32_t done = board_->done.load(std::memory_order_acquire);
  if (turn_ - done >= kSlots) return false;
  ticket = ++turn_;
  shown_.submitted = ticket;
  write(board_->commands[ticket % kSlots], order, ticket);
  return true;
}

bool Resident::look(bool may_come) noexcept {
  if (!running_ || board_->has_left.load(std::memory_order_acquire) == 0) return !lost_;
  running_ = false;
  const std::uint32_t next = board_->left_at.load(std::memory_order_relaxed);
  if (next == turn_ + 1) return true;
  lost_ = !may_come || !launch(next);  // it was given more as it left
  return !lost_;
}

}  // namespace mooncake_mpi::cuda
