#include "transport/shm/segment.h"

#include <new>
#include <utility>

namespace mooncake_mpi::shm {

using linux_driver::Mapping;
using linux_driver::SharedMemory;

Result<OwnSegment> OwnSegment::create(const ProcessId& process) {
  Result<SharedMemory> memory = SharedMemory::create("mooncake_mpi", kSegmentBytes);
  if (!memory) return memory.failure();
  Result<Mapping> mapping = memory.value().map(0, kSegmentHeaderBytes);
  if (!mapping) return mapping.failure();
  auto* header = new (mapping.value().data()) SegmentHeader{};
  header->process = process;
  header->layout = kLayout;
  return OwnSegment(std::move(memory).value(), std::move(mapping).value());
}

SlotView OwnSegment::slot(std::uint32_t index) {
  const std::size_t slab = index / kSlabSlots;
  if (slab >= slabs_.size()) slabs_.resize(slab + 1);
  if (slabs_[slab].data() == nullptr) {
    const auto first = static_cast<std::uint32_t>(slab * kSlabSlots);
    Result<Mapping> mapped = memory_.map(slot_offset(first), kSlabSlots * kSlotBytes);
    if (!mapped) return {};
    slabs_[slab] = std::move(mapped).value();
  }
  return {slabs_[slab].data() + index % kSlabSlots * kSlotBytes};
}

void OwnSegment::discard(SlotView slot) noexcept {
  for (Mapping& slab : slabs_) {
    const std::ptrdiff_t offset = slot.base - slab.data();
    if (offset < 0 || static_cast<std::size_t>(offset) >= slab.size()) continue;
    slab.discard(static_cast<std::size_t>(offset), kSlotBytes);
  }
}

Result<PeerSlot> PeerSlot::claim(pid_t pid, int descriptor, const ProcessId& peer,
                                 const ProcessId& self) {
  Result<SharedMemory> memory = SharedMemory::open_peer(pid, descriptor);
  if (!memory) return memory.failure();
  // The number may mean any other file by now, of which nothing is to be touched.
  Result<std::size_t> bytes = memory.value().sealed_bytes();
  if (!bytes || bytes.value() != kSegmentBytes) {
    return Failure{Error::kUnreachable, "process " + std::to_string(pid) +
                                            " has closed the descriptor of its shared memory"};
  }
  Result<Mapping> mapping = memory.value().map(0, kSegmentHeaderBytes);
  if (!mapping) return mapping.failure();
  auto& header = *reinterpret_cast<SegmentHeader*>(mapping.value().data());
  if (header.layout != kLayout || header.process != peer) {
    return Failure{Error::kUnreachable, "process " + std::to_string(pid) +
                                            " is not the peer that the communicator names, or runs "
                                            "another version of mooncake_mpi"};
  }
  const std::uint32_t index = header.slots_claimed.fetch_add(1, std::memory_order_acq_rel);
  if (index >= kMaxSlots) {
    return Failure{Error::kNoMemory, "process " + std::to_string(pid) + " has no slot left for " +
                                         "another peer (" + std::to_string(kMaxSlots) + " in use)"};
  }
  Result<Mapping> slot = memory.value().map(slot_offset(index), kSlotBytes);
  if (!slot) return slot.failure();
  auto* slot_header = new (slot.value().data()) SlotHeader{};
  slot_header->producer = self;
  slot_header->ready.store(1, std::memory_order_release);
  return PeerSlot(std::move(mapping).value(), std::move(slot).value());
}

}  // namespace mooncake_mpi::shm
