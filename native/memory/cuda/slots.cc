#include "memory/cuda/slots.h"

#include <algorithm>
#include <new>

namespace mooncake_mpi::cuda {

std::byte* Slots::take(int device, bool ordinary) noexcept {
  std::scoped_lock lock(mutex_);
  if (!free_.empty()) {
    std::byte* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (pieces_.size() == kPieces) {
    return ordinary ? new (std::nothrow) std::byte[kBytes] : nullptr;
  }
  if (!growing_) {
    try {
      queue_.defer([this, device] { grow(device); });
      growing_ = true;
    } catch (const std::bad_alloc&) {  // asked again
    }
  }
  return nullptr;
}

void Slots::give_back(std::byte* slot) noexcept {
  std::scoped_lock lock(mutex_);
  const bool pinned = std::ranges::any_of(pieces_, [slot](const std::byte* piece) {
    return slot >= piece && slot < piece + kSlots * kBytes;
  });
  if (pinned) {
    free_.push_back(slot);
  } else {
    delete[] slot;
  }
}

// Where the driver refuses pinned memory any other does, more slowly.
void Slots::grow(int device) {
  {
    std::scoped_lock lock(mutex_);
    pieces_.reserve(kPieces);
    free_.reserve(kPieces * kSlots);  // give_back() does not allocate
  }
  auto pinned = driver_.allocate_pinned(device, kSlots * kBytes);
  std::byte* memory = pinned ? pinned.value() : new (std::nothrow) std::byte[kSlots * kBytes];
  std::scoped_lock lock(mutex_);
  growing_ = false;
  if (memory == nullptr) return;
  pieces_.push_back(memory);
  for (std::size_t i = 0; i < kSlots; ++i)
    free_.push_back(memory + i * kBytes);
}

}  // namespace mooncake_mpi::cuda
