#include "transport/self/lane.h"

#include "transport/self/self_transport.h"

namespace mooncake_mpi {

Lane self_lane() {
  return {"self", SelfTransport::kLane, true, false,
          [](const LaneContext& context) -> Result<std::unique_ptr<Transport>> {
            return std::unique_ptr<Transport>(
                std::make_unique<SelfTransport>(context.self.uid, context.copy, context.counters));
          }};
}

}  // namespace mooncake_mpi
