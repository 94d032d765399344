// Copies between the GPUs of one node, by the copy engine of the sender's GPU: the lane has movers
// only. It costs nothing until a process meets its first GPU buffer. Engine lock held for every
// call.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "transport/cuda_ipc/mappings.h"
#include "transport/transport.h"

namespace mooncake_mpi::cuda_ipc {

class CudaMover;

class CudaIpcTransport final : public Transport {
 public:
  static constexpr wire::LaneId kLane = 4;

  explicit CudaIpcTransport(const wire::Address& self) noexcept
      : process_(self.uid), host_(self.host) {
    quiet_ = true;
  }

  std::string_view name() const noexcept override { return "cuda_ipc"; }
  void describe(wire::Address& address) const override { address.add(kLane, {}); }
  std::string unreachable_reason(const wire::Address& peer) const override;
  bool only_moves() const noexcept override { return true; }
  Result<Way> connect(const wire::Address& address, Peer& peer) override;
  unsigned poll(PacketSink& sink) override;
  void start(Waker& waker) override { opener_.set_waker(&waker); }
  void stop() override { opener_.stop(); }

 private:
  friend class CudaMover;

  ProcessId process_;
  std::array<std::byte, 16> host_;
  Opener opener_;
  std::vector<CudaMover*> movers_;
  std::vector<CudaMover*> busy_;  // something is under way
};

}  // namespace mooncake_mpi::cuda_ipc
