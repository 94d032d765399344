#pragma once

#include "drivers/linux/process_memory.h"
#include "transport/lane.h"
#include "transport/shm/peer_regions.h"

namespace mooncake_mpi::shm {

// What a test puts in the place of the system's own.
struct Drivers {
  std::function<std::unique_ptr<linux_driver::ProcessMemory>()> memory;
  std::function<std::unique_ptr<RegionMapper>()> mapper;
};

// Its settings: `cma` and `mapping`.
Lane lane(Drivers drivers = {});

}  // namespace mooncake_mpi::shm
