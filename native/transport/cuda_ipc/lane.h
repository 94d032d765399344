#pragma once

#include "transport/lane.h"

namespace mooncake_mpi::cuda_ipc {

// GPU memory of processes of one node, and of this process itself.
Lane lane();

}  // namespace mooncake_mpi::cuda_ipc
