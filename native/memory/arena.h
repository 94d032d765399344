#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "base/result.h"
#include "drivers/linux/shared_memory.h"
#include "memory/page_ranges.h"
#include "memory/region.h"

namespace mooncake_mpi {

// A large sparse piece of shared memory, handed out by the page: one descriptor and one mapping for
// many allocations, and one mapping in each peer. The kernel gives pages when they are touched.
// The caller serialises.
class Arena {
 public:
  static constexpr std::size_t kPage = 4096;

  // Room for at least `bytes`.
  static Result<std::unique_ptr<Arena>> create(std::uint32_t serial, std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  struct Block {
    std::byte* address = nullptr;
    bool zeroed = false;
  };
  // A null address when there is no room.
  Block allocate(std::size_t bytes, bool reserve);
  // The bytes of the block at `address`; 0 when there is none.
  std::size_t block_bytes(const void* address) const noexcept;
  void free(void* address);
  // Gives at most `bytes` of freed memory, rounded up to pages, back to the system; which it was.
  std::span<const std::byte> discard(std::size_t bytes);

  bool contains(const void* address, std::size_t bytes) const noexcept;
  // Bytes that it contains with what is around them up to multiples of `granule`, a power of two.
  std::span<std::byte> surroundings(const void* address, std::size_t bytes,
                                    std::size_t granule) const noexcept;
  const std::byte* begin() const noexcept { return mapping_.data(); }
  const std::byte* end() const noexcept { return mapping_.data() + mapping_.size(); }
  RegionId region() const noexcept { return header().region; }
  bool empty() const noexcept { return blocks_.empty(); }
  std::size_t live_bytes() const noexcept { return live_pages_ * kPage; }
  std::size_t kept_bytes() const noexcept { return ranges_.dirty_pages() * kPage; }

  // In a forked child: from now on this process's writes are its own.
  void make_private() noexcept;
  // In a forked child: drops its own copy of a block's pages.
  void forget(void* address) noexcept;

 private:
  Arena(linux_driver::SharedMemory memory, linux_driver::Mapping mapping);
  RegionHeader& header() const noexcept {
    return *reinterpret_cast<RegionHeader*>(mapping_.data());
  }
  std::uint64_t page_of(const void* address) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - mapping_.data()) /
           kPage;
  }

  linux_driver::SharedMemory memory_;
  linux_driver::Mapping mapping_;
  PageRanges ranges_;
  std::unordered_map<std::uint64_t, std::uint64_t> blocks_;  // first page -> pages
  std::uint64_t live_pages_ = 0;
  bool private_ = false;
};

}  // namespace mooncake_mpi
