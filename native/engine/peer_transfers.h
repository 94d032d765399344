#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/transfers.h"

namespace mooncake_mpi {

// What this process has moved to another and from it, whatever the communicator.
struct PeerTransfers {
  std::int32_t rank = -1;  // in the context; -1: none was asked for
  std::int32_t pid = 0;
  bool is_near = false;  // on this node
  std::string lane;      // empty: nothing has been sent
  Transfers transfers;
  std::vector<std::string> troubles;  // parts of the way that are not used, and detours
};

}  // namespace mooncake_mpi
