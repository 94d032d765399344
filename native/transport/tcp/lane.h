#pragma once

#include <memory>

#include "drivers/linux/sockets.h"
#include "transport/lane.h"
#include "transport/tcp/config.h"

namespace mooncake_mpi::tcp {

// What a test puts in the place of the system's own; null: the system's.
struct Drivers {
  std::shared_ptr<linux_driver::Network> network;
  Config config;  // that settings change
};

// Its settings are those that begin with `tcp_`.
Lane lane(Drivers drivers = {});
Config read_config(const Settings& settings, Config config = {});

}  // namespace mooncake_mpi::tcp
