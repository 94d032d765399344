#pragma once

#include "drivers/linux/process_memory.h"
#include "transport/copy/copy_mover.h"
#include "transport/shm/peer_regions.h"
#include "transport/shm/shm_transport.h"

namespace mooncake_mpi::shm {

// Bytes of one peer of the node: in regions that this process maps, or through the kernel. Engine
// lock held for every call.
class ShmMover final : public CopyMover {
 public:
  // `channel` outlives it.
  ShmMover(ShmTransport& transport, ShmChannel& channel, const linux_driver::RemoteProcess& process,
           bool can_read, bool leads);

  wire::LaneId lane() const noexcept override { return ShmTransport::kLane; }
  bool reaches_everything() const noexcept override { return can_read_; }

 private:
  Reach reach(const RemoteMemory& remote, std::uint64_t bytes) noexcept override;
  Error read(void* local, const RemoteMemory& remote, std::size_t bytes,
             bool past_caches) noexcept override;
  Error write(const void* local, const RemoteMemory& remote, std::size_t bytes,
              bool past_caches) noexcept override;
  [[gnu::noinline]] Error read_through_kernel(void* local, const RemoteMemory& remote,
                                              std::size_t bytes) noexcept;
  std::uint32_t acquire_job() noexcept override;
  void release_job(std::uint32_t job) noexcept override;
  CopyJob* own_job(std::uint32_t job) noexcept override;
  CopyJob* peer_job(std::uint32_t job) noexcept override;
  void ring() noexcept override { channel_.ring(); }
  bool is_attended() noexcept override { return channel_.is_attended(); }
  std::uint32_t leader() noexcept override;
  void tell_follower(std::uint32_t says) noexcept override;

  ShmChannel& channel_;
  linux_driver::ProcessMemory& memory_;
  linux_driver::RemoteProcess process_;
  bool can_read_;  // until the system refuses it
  bool leads_;     // of the two, in the choice of ways
  PeerRegions regions_;
};

}  // namespace mooncake_mpi::shm
