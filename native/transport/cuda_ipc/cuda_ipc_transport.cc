#include "transport/cuda_ipc/cuda_ipc_transport.h"

#include <algorithm>

#include "transport/cuda_ipc/mover.h"

namespace mooncake_mpi::cuda_ipc {

std::string CudaIpcTransport::unreachable_reason(const wire::Address& peer) const {
  if (peer.host != host_) return "another host";
  if (!peer.has(kLane)) return "the peer does without it";
  return {};
}

Result<Way> CudaIpcTransport::connect(const wire::Address& address, Peer& peer) {
  movers_.reserve(movers_.size() + 1);
  busy_.reserve(movers_.capacity());
  Way way;
  way.mover = std::make_unique<CudaMover>(*this, peer, address.uid == process_);
  return way;
}

unsigned CudaIpcTransport::poll(PacketSink& sink) {
  unsigned worked = 0;
  for (CudaMover* mover : busy_)
    worked += mover->advance(sink);
  std::erase_if(busy_, [](CudaMover* mover) { return mover->rest(); });
  quiet_ = busy_.empty();
  return worked;
}

}  // namespace mooncake_mpi::cuda_ipc
