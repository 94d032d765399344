#pragma once

#include "transport/lane.h"

namespace mooncake_mpi {

Lane self_lane();

}  // namespace mooncake_mpi
