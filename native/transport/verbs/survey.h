#pragma once

#include <string>
#include <vector>

#include "drivers/linux/memory_places.h"
#include "drivers/verbs/verbs.h"
#include "transport/verbs/config.h"

namespace mooncake_mpi::verbs {

// A port as `info` shows it and as the lane judges it.
struct PortReport {
  verbs_driver::PortInfo port;
  int gid_index = -1;  // that is used
  bool chosen = true;
  std::string trouble;  // why it is not used; empty when it is
  bool waits = false;   // it is down, and will be used when it is up
  int distance = linux_driver::kSameNode;
};

// In the order of the ports. Of more ports than the address of a process holds the nearest to the
// calling thread's core are used.
std::vector<PortReport> survey(std::vector<verbs_driver::PortInfo> ports, const Config& config,
                               const linux_driver::MemoryPlaces& places);

}  // namespace mooncake_mpi::verbs
