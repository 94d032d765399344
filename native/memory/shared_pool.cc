// The memory that peers can map: which arena has room, what is kept, what goes back to the system.
// Any thread, under the pool's lock, which is held across a fork.
#include "memory/shared_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace mooncake_mpi {
namespace {

// Under strict accounting the system may promise pages that it then has not got: a store to such a
// page ends in SIGBUS. So they are taken when they are asked for.
bool accounting_is_strict() {
  // Not a stream: its locale may be that of another C++ library in the process, and break.
  const int file = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
  char mode = '0';
  const bool known = file >= 0 && read(file, &mode, 1) == 1;
  if (file >= 0) close(file);
  return known && mode == '2';
}

// Not the same in two processes, lest one be taken for the other when the kernel reuses its pid.
std::uint32_t first_serial() {
  std::uint32_t serial = 0;
  if (getrandom(&serial, sizeof serial, 0) != sizeof serial) {
    serial = static_cast<std::uint32_t>(getpid()) << 12;
  }
  return serial >> 1 | 1;
}

}  // namespace

SharedPool::SharedPool(const Limits& limits)
    : limits_(limits), next_serial_(first_serial()), reserve_(accounting_is_strict()) {}

Arena::Block SharedPool::allocate(std::size_t bytes) {
  std::lock_guard lock(mutex_);
  if (forked_) return {};
  for (const auto& arena : arenas_) {
    if (const Arena::Block block = arena->allocate(bytes, reserve_); block.address != nullptr) {
      return block;
    }
  }
  Arena* arena = add_arena(bytes);
  const Arena::Block block = arena != nullptr ? arena->allocate(bytes, reserve_) : Arena::Block{};
  if (block.address == nullptr) {
    ++refused_;
    trim();
  }
  return block;
}

// The usual size if the limits of this process allow that much address space, else less.
Arena* SharedPool::add_arena(std::size_t bytes) {
  if (bytes > SIZE_MAX / 4) return nullptr;
  for (std::size_t size = std::max(limits_.arena_bytes, bytes);; size = std::max(size / 2, bytes)) {
    auto arena = Arena::create(next_serial_, size);
    if (arena) {
      ++next_serial_;
      if (next_serial_ == 0) ++next_serial_;
      const Arena& added = *arena.value();
      const auto begin = reinterpret_cast<std::uintptr_t>(added.begin());
      const auto end = reinterpret_cast<std::uintptr_t>(added.end());
      lowest_.store(std::min(lowest_.load(), begin), std::memory_order_relaxed);
      highest_.store(std::max(highest_.load(), end), std::memory_order_relaxed);
      arenas_.push_back(std::move(arena).value());
      return arenas_.back().get();
    }
    if (size == bytes) return nullptr;
  }
}

bool SharedPool::free(void* address) {
  if (!may_contain(address)) return false;
  std::lock_guard lock(mutex_);
  Arena* arena = find(address, 1);
  if (arena == nullptr || arena->block_bytes(address) == 0) return false;
  if (forked_) {
    arena->forget(address);
    return true;
  }
  arena->free(address);
  trim();
  return true;
}

// An empty arena goes, but for the first: a program that allocates and frees one array over and
// over must not make its peers map it anew each time.
void SharedPool::trim() {
  if (forked_) return;
  std::erase_if(arenas_,
                [&, first = arenas_.empty() ? nullptr : arenas_.front().get()](auto& arena) {
                  if (arena.get() == first || !arena->empty()) return false;
                  const std::span<const std::byte> all(arena->begin(), arena->end());
                  losses_.fetch_add(1, std::memory_order_release);
                  arena.reset();
                  tell(all);
                  return true;
                });
  std::size_t kept = 0;
  for (const auto& arena : arenas_)
    kept += arena->kept_bytes();
  for (const auto& arena : arenas_) {
    while (kept > limits_.keep_bytes && arena->kept_bytes() != 0) {
      const std::span<const std::byte> discarded = arena->discard(kept - limits_.keep_bytes);
      kept -= discarded.size();
      tell(discarded);
    }
  }
}

void SharedPool::tell(std::span<const std::byte> discarded) noexcept {
  for (Observer* observer : observers_)
    observer->on_discard(discarded);
}

void SharedPool::observe(Observer& observer) {
  std::lock_guard lock(mutex_);
  observers_.push_back(&observer);
}

void SharedPool::unobserve(Observer& observer) {
  std::lock_guard lock(mutex_);
  std::erase(observers_, &observer);
}

std::size_t SharedPool::block_bytes(const void* address) const {
  if (!may_contain(address)) return 0;
  std::lock_guard lock(mutex_);
  const Arena* arena = find(address, 1);
  return arena != nullptr ? arena->block_bytes(address) : 0;
}

RegionId SharedPool::region_of(const void* address, std::size_t bytes) const {
  if (!may_contain(address)) return 0;
  std::lock_guard lock(mutex_);
  const Arena* arena = forked_ ? nullptr : find(address, bytes);
  return arena != nullptr ? arena->region() : 0;
}

RegionId SharedPool::look_for_region(const void* address, std::size_t bytes, Seen& seen) const {
  std::lock_guard lock(mutex_);
  const Arena* arena = forked_ ? nullptr : find(address, bytes);
  if (arena == nullptr) return 0;
  // Without the page of the header, which no message lies in.
  seen = {.begin = reinterpret_cast<std::uintptr_t>(arena->begin()) + Arena::kPage,
          .end = reinterpret_cast<std::uintptr_t>(arena->end()),
          .region = arena->region(),
          .losses = losses_.load(std::memory_order_relaxed)};
  return seen.region;
}

std::span<std::byte> SharedPool::surroundings(const void* address, std::size_t bytes,
                                              std::size_t granule) const {
  if (!may_contain(address)) return {};
  std::lock_guard lock(mutex_);
  const Arena* arena = forked_ ? nullptr : find(address, bytes);
  return arena != nullptr ? arena->surroundings(address, bytes, granule) : std::span<std::byte>();
}

Arena* SharedPool::find(const void* address, std::size_t bytes) const noexcept {
  for (const auto& arena : arenas_) {
    if (arena->contains(address, bytes)) return arena.get();
  }
  return nullptr;
}

void SharedPool::set_keep_bytes(std::size_t bytes) {
  std::lock_guard lock(mutex_);
  limits_.keep_bytes = bytes;
  trim();
}

SharedPool::Usage SharedPool::usage() const {
  std::lock_guard lock(mutex_);
  Usage usage{.regions = arenas_.size(), .refused = refused_};
  for (const auto& arena : arenas_) {
    usage.live_bytes += arena->live_bytes();
    usage.kept_bytes += arena->kept_bytes();
  }
  return usage;
}

void SharedPool::after_fork_in_child() noexcept {
  forked_ = true;
  losses_.fetch_add(1, std::memory_order_release);
  for (const auto& arena : arenas_)
    arena->make_private();
  mutex_.unlock();
}

SharedPool& process_pool() {
  static SharedPool* pool = [] {
    auto* created = new SharedPool;
    pthread_atfork([] { process_pool().before_fork(); },
                   [] { process_pool().after_fork_in_parent(); },
                   [] { process_pool().after_fork_in_child(); });
    return created;
  }();
  return *pool;
}

}  // namespace mooncake_mpi
