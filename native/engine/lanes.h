#pragma once

#include <vector>

#include "transport/lane.h"

namespace mooncake_mpi {

// The lanes of this build, the fastest first: the one place that names them.
std::vector<Lane> all_lanes();

}  // namespace mooncake_mpi
