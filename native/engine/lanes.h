#pragma once

#include <string>
#include <vector>

#include "transport/lane.h"

namespace mooncake_mpi {

// A lane that a process does without, and why.
struct MissingLane {
  std::string name;
  std::string reason;
  bool only_moves = false;
};

// The lanes of this build, the fastest first: the one place that names them.
std::vector<Lane> all_lanes();

}  // namespace mooncake_mpi
