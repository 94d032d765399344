#pragma once

// The memory that peers can map, out of arenas. Any thread; a lock of its own is held while it
// looks or changes something.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "memory/arena.h"
#include "memory/region.h"

namespace mooncake_mpi {

// Memory made for messages: what is allocated here lies in regions that peers can map, so that a
// message from or to it is copied by loads and stores. Thread-safe; takes no other lock.
//
// Freed pages are kept for the next allocation up to a limit and given back to the system beyond
// it. Whoever gets no memory here (descriptors, address space, file size or memory are used up)
// takes ordinary memory, which can be sent as well.
class SharedPool {
 public:
  struct Limits {
    std::size_t arena_bytes = std::size_t{16} << 30;  // of address space
    std::size_t keep_bytes = std::size_t{256} << 20;  // of freed memory
  };
  struct Usage {
    std::size_t regions = 0;
    std::size_t live_bytes = 0;
    std::size_t kept_bytes = 0;
    std::size_t refused = 0;  // allocations that had to take ordinary memory
  };

  // Is told of memory whose pages are gone, before they are handed out again: in any thread, with
  // the pool's lock held.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void on_discard(std::span<const std::byte> bytes) noexcept = 0;
  };

  SharedPool() : SharedPool(Limits{}) {}
  explicit SharedPool(const Limits& limits);
  SharedPool(const SharedPool&) = delete;
  SharedPool& operator=(const SharedPool&) = delete;

  // Page-aligned; at least one page. The address is null when there is none.
  Arena::Block allocate(std::size_t bytes);
  // False when the address is not of a block of this pool.
  bool free(void* address);
  // The room in the block at `address`; 0 when it is none of this pool.
  std::size_t block_bytes(const void* address) const;
  // The region that holds all of these bytes, or 0.
  RegionId region_of(const void* address, std::size_t bytes) const;
  // The same for one who has asked before: `seen` is the region that was found last, and takes the
  // place of the lock for as long as no region goes. Under a lock of the caller's own.
  struct Seen {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    RegionId region = 0;
    std::uint32_t losses = 0;
  };
  RegionId region_of(const void* address, std::size_t bytes, Seen& seen) const {
    const auto place = reinterpret_cast<std::uintptr_t>(address);
    if (place - seen.begin < seen.end - seen.begin && bytes <= seen.end - place &&
        seen.losses == losses_.load(std::memory_order_acquire)) {
      return seen.region;
    }
    return may_contain(address) ? look_for_region(address, bytes, seen) : 0;
  }

  // Spares the lock for most addresses: none outside these bounds was ever in an arena.
  bool may_contain(const void* address) const noexcept {
    const auto place = reinterpret_cast<std::uintptr_t>(address);
    return place >= lowest_.load(std::memory_order_relaxed) &&
           place < highest_.load(std::memory_order_relaxed);
  }

  // These bytes with what is around them up to multiples of `granule` (a power of two), as far as
  // the region goes; empty when they lie in none.
  std::span<std::byte> surroundings(const void* address, std::size_t bytes,
                                    std::size_t granule) const;

  void observe(Observer& observer);
  void unobserve(Observer& observer);

  void set_keep_bytes(std::size_t bytes);
  Usage usage() const;

  // fork(): the child keeps what it inherited, but what it writes stays its own, and what it
  // allocates is ordinary memory. Its parent's later writes may show in pages that it has not
  // written itself.
  void before_fork() noexcept { mutex_.lock(); }
  void after_fork_in_parent() noexcept { mutex_.unlock(); }
  void after_fork_in_child() noexcept;

 private:
  RegionId look_for_region(const void* address, std::size_t bytes, Seen& seen) const;
  Arena* find(const void* address, std::size_t bytes) const noexcept;
  Arena* add_arena(std::size_t bytes);
  void trim();
  void tell(std::span<const std::byte> discarded) noexcept;

  Limits limits_;
  mutable std::mutex mutex_;  // guards everything below
  std::vector<std::unique_ptr<Arena>> arenas_;
  std::vector<Observer*> observers_;
  std::uint32_t next_serial_;
  std::size_t refused_ = 0;
  bool reserve_ = false;
  bool forked_ = false;
  std::atomic<std::uint32_t> losses_{0};  // how often a region has gone
  std::atomic<std::uintptr_t> lowest_{UINTPTR_MAX};
  std::atomic<std::uintptr_t> highest_{0};
};

// The pool of this process. It outlives everything that was allocated from it.
SharedPool& process_pool();

}  // namespace mooncake_mpi
