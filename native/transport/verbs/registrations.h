#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "drivers/verbs/verbs.h"

namespace mooncake_mpi::verbs {

// Buffers of the program that one adapter may read or write, each for as long as a message of it is
// under way: what happens to the memory afterwards is nobody's concern here. Messages of the same
// bytes share one registration, which costs time for every page. Outlives what it handed out.
class Registrations {
 public:
  using Region = std::shared_ptr<verbs_driver::MemoryRegion>;

  explicit Registrations(verbs_driver::Device& device) : device_(device) {}
  Registrations(const Registrations&) = delete;
  Registrations& operator=(const Registrations&) = delete;

  Result<Region> acquire(std::byte* address, std::uint64_t bytes, unsigned access);
  std::size_t size() const noexcept { return regions_.size(); }

 private:
  using Range = std::tuple<std::byte*, std::uint64_t, unsigned>;

  verbs_driver::Device& device_;
  std::map<Range, std::weak_ptr<verbs_driver::MemoryRegion>> regions_;
};

}  // namespace mooncake_mpi::verbs
