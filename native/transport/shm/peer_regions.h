#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "drivers/linux/shared_memory.h"
#include "memory/region.h"

namespace mooncake_mpi::shm {

// Maps a region of another process.
class RegionMapper {
 public:
  virtual ~RegionMapper() = default;
  virtual Result<linux_driver::Mapping> map(pid_t pid, RegionId region) = 0;
};

// Through /proc, with proof that the descriptor still is the region.
class SystemRegionMapper final : public RegionMapper {
 public:
  Result<linux_driver::Mapping> map(pid_t pid, RegionId region) override;
};

// Maps nothing.
class RefusingRegionMapper final : public RegionMapper {
 public:
  Result<linux_driver::Mapping> map(pid_t, RegionId) override {
    return Failure{Error::kOther, "mapping the memory of peers is switched off"};
  }
};

// The regions of one peer that this process has mapped: each once, at its first use. Engine lock.
class PeerRegions {
 public:
  PeerRegions(RegionMapper& mapper, pid_t pid) noexcept : mapper_(mapper), pid_(pid) {}

  // Where this process sees the peer's bytes; nullptr when it does not.
  std::byte* find(RemoteMemory memory, std::uint64_t bytes) noexcept;
  std::size_t size() const noexcept { return mapped_.size(); }

 private:
  struct Mapped {
    RegionId region;
    std::uint64_t base;  // where the peer has it
    linux_driver::Mapping mapping;
    bool retired() const noexcept {
      return reinterpret_cast<const RegionHeader*>(mapping.data())
                 ->retired.load(std::memory_order_acquire) != 0;
    }
  };
  // What could not be mapped is not tried for every chunk, but again later: descriptors may be
  // scarce for a moment only.
  static constexpr std::uint64_t kRetryNs = 100'000'000;

  const Mapped* map(RegionId region) noexcept;
  [[gnu::cold, gnu::noinline]] const Mapped* look_again(RegionId region) noexcept;

  RegionMapper& mapper_;
  pid_t pid_;
  std::vector<Mapped> mapped_;
  RegionId refused_ = 0;
  std::uint64_t retry_at_ns_ = 0;
};

}  // namespace mooncake_mpi::shm
