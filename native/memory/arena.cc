// One piece of shared memory, handed out by the page. Under the lock of the pool that it belongs
// to.
#include "memory/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kHugePages = (2u << 20) / Arena::kPage;

std::uint64_t pages_for(std::size_t bytes) {
  return std::max<std::uint64_t>(bytes / Arena::kPage + (bytes % Arena::kPage != 0 ? 1 : 0), 1);
}

}  // namespace

using linux_driver::Mapping;
using linux_driver::SharedMemory;

Result<std::unique_ptr<Arena>> Arena::create(std::uint32_t serial, std::size_t bytes) {
  const std::size_t total = (pages_for(bytes) + 1) * kPage;  // and one for the header
  Result<SharedMemory> memory = SharedMemory::create("mooncake_mpi arena", total);
  if (!memory) return memory.failure();
  Result<Mapping> mapping = memory.value().map(0, total);
  if (!mapping) return mapping.failure();
  if (!memory.value().reserve(0, kPage)) {
    return Failure{Error::kNoMemory, "no page left for shared memory"};
  }
  // Where the system gives huge pages to shared memory on request, ask.
  madvise(mapping.value().data(), total, MADV_HUGEPAGE);
  auto* header = new (mapping.value().data()) RegionHeader;
  header->region = make_region(serial, memory.value().descriptor());
  header->base = reinterpret_cast<std::uint64_t>(mapping.value().data());
  header->bytes = total;
  return std::unique_ptr<Arena>(new Arena(std::move(memory).value(), std::move(mapping).value()));
}

Arena::Arena(SharedMemory memory, Mapping mapping)
    : memory_(std::move(memory)),
      mapping_(std::move(mapping)),
      ranges_(1, mapping_.size() / kPage - 1) {}

// Peers may keep their mapping for a while: the pages go now.
Arena::~Arena() {
  if (private_) return;
  header().retired.store(1, std::memory_order_release);
  mapping_.discard(kPage, mapping_.size() - kPage);
}

Arena::Block Arena::allocate(std::size_t bytes, bool reserve) {
  const std::uint64_t pages = pages_for(bytes);
  const auto range = ranges_.take(pages, pages >= kHugePages ? kHugePages : 1);
  if (!range) return {};
  if (reserve && !memory_.reserve(range->first * kPage, pages * kPage)) {
    ranges_.give_back(range->first, pages);
    return {};
  }
  blocks_.emplace(range->first, pages);
  live_pages_ += pages;
  return {mapping_.data() + range->first * kPage, range->clean};
}

std::size_t Arena::block_bytes(const void* address) const noexcept {
  const auto block = blocks_.find(page_of(address));
  return block != blocks_.end() ? block->second * kPage : 0;
}

void Arena::free(void* address) {
  const auto block = blocks_.find(page_of(address));
  ranges_.give_back(block->first, block->second);
  live_pages_ -= block->second;
  blocks_.erase(block);
}

std::span<const std::byte> Arena::discard(std::size_t bytes) {
  const auto range = ranges_.clean(pages_for(bytes));
  if (!range) return {};
  const std::size_t offset = range->first * kPage;
  const std::size_t size = range->pages * kPage;
  // Clean pages read as zeros, come what may.
  if (!mapping_.discard(offset, size)) std::memset(mapping_.data() + offset, 0, size);
  return {mapping_.data() + offset, size};
}

bool Arena::contains(const void* address, std::size_t bytes) const noexcept {
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  const auto base = reinterpret_cast<std::uintptr_t>(mapping_.data());
  return first >= base + kPage && first - base <= mapping_.size() &&
         bytes <= mapping_.size() - (first - base);
}

std::span<std::byte> Arena::surroundings(const void* address, std::size_t bytes,
                                         std::size_t granule) const noexcept {
  const auto base = reinterpret_cast<std::uintptr_t>(mapping_.data());
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t begin = std::max(first & ~(granule - 1), base + kPage);
  const std::uintptr_t end =
      std::min((first + bytes + granule - 1) & ~(granule - 1), base + mapping_.size());
  return {mapping_.data() + (begin - base), end - begin};
}

void Arena::make_private() noexcept {
  private_ = true;
  // Reading is harmless; a write would reach the parent.
  if (!memory_.make_private(mapping_)) mprotect(mapping_.data(), mapping_.size(), PROT_READ);
}

void Arena::forget(void* address) noexcept {
  const auto block = blocks_.find(page_of(address));
  madvise(address, block->second * kPage, MADV_DONTNEED);
  live_pages_ -= block->second;
  blocks_.erase(block);
}

}  // namespace mooncake_mpi
