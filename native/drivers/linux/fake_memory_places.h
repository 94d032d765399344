#pragma once

#include "drivers/linux/memory_places.h"

namespace mooncake_mpi::linux_driver {

// A machine of several nodes with all memory, and the caller, at one of them.
class FakeMemoryPlaces final : public MemoryPlaces {
 public:
  explicit FakeMemoryPlaces(int node) : node_(node) {}
  bool several() const noexcept override { return true; }
  int node_of(const void*) const noexcept override { return node_; }
  int own_node() const noexcept override { return node_; }
  int distance(int from, int to) const noexcept override {
    return from == to || from < 0 || to < 0 ? kSameNode : 2 * kSameNode;
  }

 private:
  int node_;
};

}  // namespace mooncake_mpi::linux_driver
