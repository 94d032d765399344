#include "memory/cuda/blocks.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace mooncake_mpi::cuda {

Block::~Block() {
  blocks_.give_back(*this);
}

unsigned Blocks::class_of(std::uint64_t bytes) noexcept {
  return std::max<unsigned>(kSmallest, static_cast<unsigned>(std::bit_width(bytes - 1)));
}

std::shared_ptr<Block> Blocks::take_free(std::uint64_t bytes) {
  const unsigned size_class = class_of(bytes);
  if (bytes == 0 || size_class >= kClasses) return nullptr;
  const std::scoped_lock lock(mutex_);
  std::byte* memory = find(size_class);
  return memory != nullptr ? std::make_shared<Block>(*this, memory, size_class) : nullptr;
}

Result<std::shared_ptr<Block>> Blocks::take(int device, std::uint64_t bytes) {
  const unsigned size_class = class_of(bytes);
  if (bytes == 0 || size_class >= kClasses) {
    return Failure{Error::kNoMemory, "no pinned memory for a message of that size"};
  }
  const std::size_t size = std::size_t{1} << size_class;
  std::unique_lock lock(mutex_);
  std::byte* memory = find(size_class);
  if (memory == nullptr && size > kPiece) {  // of its own
    lock.unlock();
    auto piece = allocate(device, size);
    if (!piece) return piece.failure();
    memory = piece.value();
    lock.lock();
  }
  while (memory == nullptr) {
    lock.unlock();
    auto piece = allocate(device, kPiece);
    if (!piece) return piece.failure();
    lock.lock();
    rest_ = piece.value();
    rest_bytes_ = kPiece;
    memory = find(size_class);
  }
  return std::make_shared<Block>(*this, memory, size_class);
}

Result<std::byte*> Blocks::allocate(int device, std::size_t bytes) {
  return owner_ < 0 ? driver_.allocate_pinned(device, bytes)
                    : driver_.allocate_device(owner_, bytes);
}

std::byte* Blocks::find(unsigned size_class) {
  std::erase_if(late_, [this](Late& late) {
    const bool done =
        std::ranges::all_of(late.users, [](const auto& user) { return user->reached(); });
    if (done) free_[late.size_class].push_back(late.memory);
    return done;
  });
  auto& free = free_[size_class];
  if (!free.empty()) {
    std::byte* memory = free.back();
    free.pop_back();
    return memory;
  }
  const std::size_t size = std::size_t{1} << size_class;
  if (rest_bytes_ < size) return nullptr;
  rest_bytes_ -= size;
  return rest_ + rest_bytes_;
}

// Without memory to note it down it is lost, until the process ends.
void Blocks::give_back(Block& block) noexcept {
  std::scoped_lock lock(mutex_);
  try {
    late_.push_back({block.memory_, block.class_, std::move(block.users_)});
  } catch (const std::bad_alloc&) {
  }
}

}  // namespace mooncake_mpi::cuda
