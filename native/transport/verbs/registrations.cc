#include "transport/verbs/registrations.h"

#include <utility>

namespace mooncake_mpi::verbs {

using verbs_driver::MemoryRegion;

Registrations::Registrations(verbs_driver::Device& device, SharedPool* pool,
                             std::size_t cached_bytes)
    : device_(device) {
  if (pool != nullptr && cached_bytes != 0) cache_.emplace(device, *pool, cached_bytes);
}

Result<Registrations::Region> Registrations::acquire(std::byte* address, std::uint64_t bytes,
                                                     unsigned access) {
  if (Region kept = cached(address, bytes)) return kept;
  const Range range{address, bytes, access};
  if (const auto known = regions_.find(range); known != regions_.end()) return known->second.lock();
  auto registered = register_memory(address, bytes, access);
  if (!registered) return registered.failure();
  const Region region(std::move(registered).value().release(), [this, range](MemoryRegion* last) {
    regions_.erase(range);
    delete last;
  });
  regions_.emplace(range, region);
  return region;
}

Result<std::unique_ptr<MemoryRegion>> Registrations::register_memory(std::byte* address,
                                                                     std::size_t bytes,
                                                                     unsigned access) {
  auto registered = device_.register_memory(address, bytes, access);
  if (registered || !cache_ || !cache_->clear()) return registered;
  return device_.register_memory(address, bytes, access);
}

}  // namespace mooncake_mpi::verbs
