#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "drivers/verbs/verbs.h"
#include "memory/registration_cache.h"

namespace mooncake_mpi::verbs {

// Buffers of the program that one adapter may read or write. Memory of the pool stays registered.
// Any other is registered for as long as a message of it is under way: what happens to it
// afterwards is nobody's concern here. Messages of the same bytes share a registration, which
// costs time for every page. Outlives what it handed out.
class Registrations {
 public:
  using Region = std::shared_ptr<verbs_driver::MemoryRegion>;

  // `cached_bytes` of memory of `pool`, if there is one, at most.
  Registrations(verbs_driver::Device& device, SharedPool* pool, std::size_t cached_bytes);
  Registrations(const Registrations&) = delete;
  Registrations& operator=(const Registrations&) = delete;

  // nullptr where these bytes are not of memory that stays registered.
  Region cached(const std::byte* address, std::uint64_t bytes) {
    return cache_ ? cache_->acquire(address, bytes) : nullptr;
  }
  Result<Region> acquire(std::byte* address, std::uint64_t bytes, unsigned access);

  // The device's, and once more without what only stays registered where memory may be locked no
  // further.
  Result<std::unique_ptr<verbs_driver::MemoryRegion>> register_memory(std::byte* address,
                                                                      std::size_t bytes,
                                                                      unsigned access);

 private:
  using Range = std::tuple<std::byte*, std::uint64_t, unsigned>;

  verbs_driver::Device& device_;
  std::optional<RegistrationCache> cache_;
  std::map<Range, std::weak_ptr<verbs_driver::MemoryRegion>> regions_;
};

}  // namespace mooncake_mpi::verbs
