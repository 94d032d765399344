#pragma once

#include "wire/address.h"

namespace mooncake_mpi {

// What tells this process and its node from all others: random id, host, pid, start time.
// MOONCAKE_MPI_HOST_ID replaces the host's identity.
wire::Address identify_process();

}  // namespace mooncake_mpi
