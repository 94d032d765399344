#include "engine/lanes.h"

#include "transport/cuda_ipc/lane.h"
#include "transport/self/lane.h"
#include "transport/shm/lane.h"
#include "transport/tcp/lane.h"
#include "transport/verbs/lane.h"

namespace mooncake_mpi {

std::vector<Lane> all_lanes() {
  return {self_lane(), cuda_ipc::lane(), shm::lane(), verbs::lane(), tcp::lane()};
}

}  // namespace mooncake_mpi
