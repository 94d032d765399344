#include "transport/cuda_ipc/lane.h"

#include <memory>

#include "transport/cuda_ipc/cuda_ipc_transport.h"

namespace mooncake_mpi::cuda_ipc {

Lane lane() {
  return {"cuda_ipc",
          CudaIpcTransport::kLane,
          false,
          true,
          [](const LaneContext& context) -> Result<std::unique_ptr<Transport>> {
            return std::unique_ptr<Transport>(std::make_unique<CudaIpcTransport>(context.self));
          },
          true};
}

}  // namespace mooncake_mpi::cuda_ipc
