#pragma once

#include <memory>

namespace mooncake_mpi::linux_driver {

// Which memory is near to what: the NUMA nodes of this machine, as the kernel numbers them.
class MemoryPlaces {
 public:
  virtual ~MemoryPlaces() = default;
  // False where all memory is equally near, and nothing else need be asked.
  virtual bool several() const noexcept = 0;
  // Of the page at `address`, or -1: unknown, or not there yet.
  virtual int node_of(const void* address) const noexcept = 0;
  // Of the core that the calling thread runs on, or -1.
  virtual int own_node() const noexcept = 0;
  // The kernel's measure, 10 for a node itself; 10 where either is unknown.
  virtual int distance(int from, int to) const noexcept = 0;
};

inline constexpr int kSameNode = 10;

std::unique_ptr<MemoryPlaces> system_memory_places();

}  // namespace mooncake_mpi::linux_driver
