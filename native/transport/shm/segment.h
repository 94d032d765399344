#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "drivers/linux/shared_memory.h"
#include "transport/shm/layout.h"

namespace mooncake_mpi::shm {

// This process's segment: peers write into its slots.
class OwnSegment {
 public:
  static Result<OwnSegment> create(const ProcessId& process);

  SegmentHeader& header() const noexcept {
    return *reinterpret_cast<SegmentHeader*>(mapping_.data());
  }
  // A view without memory: there is no address space for it now.
  SlotView slot(std::uint32_t index);
  int descriptor() const noexcept { return memory_.descriptor(); }
  // Nobody uses the slot any more: its memory is given back, and reads as zero.
  void discard(SlotView slot) noexcept;

 private:
  OwnSegment(linux_driver::SharedMemory memory, linux_driver::Mapping mapping) noexcept
      : memory_(std::move(memory)), mapping_(std::move(mapping)) {}

  linux_driver::SharedMemory memory_;
  linux_driver::Mapping mapping_;             // of the header
  std::vector<linux_driver::Mapping> slabs_;  // of kSlabSlots slots each
};

// A peer's segment, as far as this process needs it: the header and the one slot it claimed.
class PeerSlot {
 public:
  // Claims a slot in the segment of process `pid` for `self` to write into.
  static Result<PeerSlot> claim(pid_t pid, int descriptor, const ProcessId& peer,
                                const ProcessId& self);

  SegmentHeader& header() const noexcept {
    return *reinterpret_cast<SegmentHeader*>(header_.data());
  }
  SlotView view() const noexcept { return {slot_.data()}; }

 private:
  PeerSlot(linux_driver::Mapping header, linux_driver::Mapping slot) noexcept
      : header_(std::move(header)), slot_(std::move(slot)) {}

  linux_driver::Mapping header_;
  linux_driver::Mapping slot_;
};

}  // namespace mooncake_mpi::shm
