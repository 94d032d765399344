#include "memory/cuda/slots.h"

#include <new>

namespace mooncake_mpi::cuda {

std::byte* Slots::take() noexcept {
  std::scoped_lock lock(mutex_);
  if (!free_.empty()) {
    std::byte* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (made_ < kMost && !growing_) {
    try {
      queue_.defer([this] { grow(); });
      growing_ = true;
    } catch (const std::bad_alloc&) {  // asked again
    }
  }
  return nullptr;
}

void Slots::give_back(std::byte* slot) noexcept {
  std::scoped_lock lock(mutex_);
  free_.push_back(slot);
}

// Where the driver refuses pinned memory any other does, more slowly.
void Slots::grow() {
  auto pinned = driver_.allocate_pinned(kSlots * kBytes);
  std::byte* memory = pinned ? pinned.value() : new (std::nothrow) std::byte[kSlots * kBytes];
  std::scoped_lock lock(mutex_);
  growing_ = false;
  if (memory == nullptr) return;
  free_.reserve(made_ + kSlots);  // give_back() does not allocate
  made_ += kSlots;
  for (std::size_t i = 0; i < kSlots; ++i)
    free_.push_back(memory + i * kBytes);
}

}  // namespace mooncake_mpi::cuda
