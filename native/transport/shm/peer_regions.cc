#include "transport/shm/peer_regions.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace mooncake_mpi::shm {

using linux_driver::Mapping;
using linux_driver::SharedMemory;

Result<Mapping> SystemRegionMapper::map(pid_t pid, RegionId region) {
  Result<SharedMemory> memory = SharedMemory::open_peer(pid, descriptor_of(region));
  if (!memory) return memory.failure();
  Result<std::size_t> bytes = memory.value().sealed_bytes();
  if (!bytes) return bytes.failure();
  if (bytes.value() <= sizeof(RegionHeader)) return Failure{Error::kOther, "not a region"};
  Result<Mapping> mapping = memory.value().map(0, bytes.value());
  if (!mapping) return mapping.failure();
  mapping.value().keep_from_children();
  const auto& header = *reinterpret_cast<const RegionHeader*>(mapping.value().data());
  if (header.magic != RegionHeader::kMagic || header.region != region ||
      header.bytes != bytes.value() || header.retired.load(std::memory_order_acquire) != 0) {
    return Failure{Error::kOther, "the region is gone, or another file has taken its descriptor"};
  }
  return mapping;
}

std::byte* PeerRegions::find(RemoteMemory memory, std::uint64_t bytes) noexcept {
  if (memory.region == 0) return nullptr;
  const Mapped* found = nullptr;
  bool retired = false;
  for (const Mapped& mapped : mapped_) {
    if (mapped.region == memory.region) found = &mapped;
    retired |= mapped.retired();
  }
  if (retired || found == nullptr) [[unlikely]]
    found = look_again(memory.region);
  if (found == nullptr || memory.address < found->base) return nullptr;
  const std::uint64_t offset = memory.address - found->base;
  const std::uint64_t room = found->mapping.size();
  if (offset < sizeof(RegionHeader) || offset > room || bytes > room - offset) return nullptr;
  return found->mapping.data() + offset;
}

// Without those that the peer has given up.
const PeerRegions::Mapped* PeerRegions::look_again(RegionId region) noexcept {
  std::erase_if(mapped_, [](const Mapped& mapped) { return mapped.retired(); });
  const auto found = std::ranges::find(mapped_, region, &Mapped::region);
  return found != mapped_.end() ? &*found : map(region);
}

const PeerRegions::Mapped* PeerRegions::map(RegionId region) noexcept {
  if (region == refused_ && now_ns() < retry_at_ns_) return nullptr;
  try {
    if (Result<Mapping> mapping = mapper_.map(pid_, region)) {
      const auto& header = *reinterpret_cast<const RegionHeader*>(mapping.value().data());
      mapped_.push_back({region, header.base, std::move(mapping).value()});
      return &mapped_.back();
    }
  } catch (const std::bad_alloc&) {  // not mapped, for now
  }
  refused_ = region;
  retry_at_ns_ = now_ns() + kRetryNs;
  return nullptr;
}

}  // namespace mooncake_mpi::shm
