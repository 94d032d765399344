#include "transport/shm/mover.h"

#include <bit>
#include <cerrno>

#include "memory/copy.h"

namespace mooncake_mpi::shm {
namespace {

// A fault is the buffer's; everything else says that this way is closed, and another may not be.
Error copy_error(int code) noexcept {
  if (code == 0) return Error::kNone;
  if (code == EFAULT) return Error::kBuffer;
  return code == ESRCH ? Error::kProcessFailed : Error::kOther;
}

}  // namespace

ShmMover::ShmMover(ShmTransport& transport, ShmChannel& channel,
                   const linux_driver::RemoteProcess& process, bool can_read, bool leads)
    : CopyMover(transport.work_, channel.peer_),
      channel_(channel),
      memory_(*transport.process_memory_),
      process_(process),
      can_read_(can_read),
      leads_(leads),
      regions_(*transport.region_mapper_, process.pid) {}

Reach ShmMover::reach(const RemoteMemory& remote, std::uint64_t bytes) noexcept {
  if (regions_.find(remote, bytes) != nullptr) return Reach::kMapped;
  return can_read_ ? Reach::kKernel : Reach::kNone;
}

Error ShmMover::read(void* local, const RemoteMemory& remote, std::size_t bytes,
                     bool past_caches) noexcept {
  if (const std::byte* mapped = regions_.find(remote, bytes)) {
    copy_bytes(local, mapped, bytes, past_caches);
    return Error::kNone;
  }
  return read_through_kernel(local, remote, bytes);
}

Error ShmMover::read_through_kernel(void* local, const RemoteMemory& remote,
                                    std::size_t bytes) noexcept {
  const int code = memory_.read(process_, local, remote.address, bytes);
  if (code != 0 && code != EFAULT) can_read_ = false;
  return copy_error(code);
}

Error ShmMover::write(const void* local, const RemoteMemory& remote, std::size_t bytes,
                      bool past_caches) noexcept {
  if (std::byte* mapped = regions_.find(remote, bytes)) {
    copy_bytes(mapped, local, bytes, past_caches);
    return Error::kNone;
  }
  return copy_error(memory_.write(process_, local, remote.address, bytes));
}

std::uint32_t ShmMover::acquire_job() noexcept {
  if (channel_.incoming_ == nullptr) return kNoJob;
  const int job = std::countr_one(channel_.incoming_->jobs_in_use);
  if (job >= static_cast<int>(kJobs)) return kNoJob;
  channel_.incoming_->jobs_in_use |= std::uint64_t{1} << job;
  return static_cast<std::uint32_t>(job);
}

void ShmMover::release_job(std::uint32_t job) noexcept {
  channel_.incoming_->jobs_in_use &= ~(std::uint64_t{1} << job);
}

std::uint32_t ShmMover::leader() noexcept {
  if (leads_ || channel_.incoming_ == nullptr) return 0;
  return channel_.incoming_->slot.header().way.load(std::memory_order_relaxed);
}

void ShmMover::tell_follower(std::uint32_t says) noexcept {
  if (leads_) channel_.producer_.header().way.store(says, std::memory_order_relaxed);
}

CopyJob* ShmMover::own_job(std::uint32_t job) noexcept {
  return channel_.incoming_ != nullptr && job < kJobs ? &channel_.incoming_->ring.job(job)
                                                      : nullptr;
}

CopyJob* ShmMover::peer_job(std::uint32_t job) noexcept {
  return job < kJobs ? &channel_.producer_.job(job) : nullptr;
}

}  // namespace mooncake_mpi::shm
