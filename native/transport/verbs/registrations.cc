#include "transport/verbs/registrations.h"

#include <utility>

namespace mooncake_mpi::verbs {

using verbs_driver::MemoryRegion;

Result<Registrations::Region> Registrations::acquire(std::byte* address, std::uint64_t bytes,
                                                     unsigned access) {
  const Range range{address, bytes, access};
  if (const auto known = regions_.find(range); known != regions_.end()) return known->second.lock();
  auto registered = device_.register_memory(address, bytes, access);
  if (!registered) return registered.failure();
  const Region region(std::move(registered).value().release(), [this, range](MemoryRegion* last) {
    regions_.erase(range);
    delete last;
  });
  regions_.emplace(range, region);
  return region;
}

}  // namespace mooncake_mpi::verbs
