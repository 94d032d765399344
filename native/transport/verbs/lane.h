#pragma once

#include <memory>

#include "drivers/linux/memory_places.h"
#include "drivers/verbs/verbs.h"
#include "transport/lane.h"
#include "transport/verbs/config.h"

namespace mooncake_mpi::verbs {

// What a test puts in the place of the system's own; null: libibverbs, and this machine.
struct Drivers {
  std::shared_ptr<verbs_driver::Provider> provider;
  std::shared_ptr<linux_driver::MemoryPlaces> places;
  Config config;  // that settings change
};

// Its settings are those that begin with `verbs_`.
Lane lane(Drivers drivers = {});
Config read_config(const Settings& settings, Config config = {});

}  // namespace mooncake_mpi::verbs
