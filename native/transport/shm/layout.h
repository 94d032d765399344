#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "drivers/linux/life_mark.h"
#include "transport/copy/copy_job.h"
#include "transport/doorbell.h"
#include "transport/hang_board.h"
#include "transport/transport.h"
#include "wire/header.h"

namespace mooncake_mpi::shm {

// A process's segment, which peers on the node map: a header, then slots. A slot is one peer's way
// in, claimed by that peer at its first message, so that memory grows with the peers that talk.
//
//   segment: SegmentHeader | Slot 0 | Slot 1 | ...
//   slot:    SlotHeader | kDescriptors descriptors | kPayloadBytes bytes
//
// The file has its whole size at once, in pages that the kernel gives when they are touched. Its
// owner maps the slots by the slab, as they are claimed.

inline constexpr std::size_t kPage = 4096;
inline constexpr std::uint32_t kMaxSlots = 4096;
inline constexpr std::uint32_t kDescriptors = 512;
inline constexpr std::size_t kPayloadBytes = 256 * 1024;
inline constexpr std::size_t kMaxPacketBytes = 64 * 1024 + 64;  // 64 KiB and what is before them
// Of a stream: one end copies into the ring while the other copies out of it.
inline constexpr std::size_t kFragmentBytes = 32 * 1024;
inline constexpr std::uint32_t kJobs = 60;  // for windows of messages; what the page has room for

struct SegmentHeader {
  ProcessId process;
  std::uint64_t layout;  // kLayout: both sides must have been built alike
  std::atomic<std::uint32_t> slots_claimed{0};
  Doorbell doorbell;
  HangBoard board;
  linux_driver::LifeMark mark;
};
inline constexpr std::uint64_t kLayout = 0x6d6d7069'00000018u;

// Small packets lie whole in their descriptor; larger ones point into the slot's payload ring.
struct alignas(128) Descriptor {
  // 2 * lap + 1 when full in that lap; a lap is one turn round the ring, so that a stale or zeroed
  // descriptor is never taken for a new one.
  std::atomic<std::uint32_t> sequence;
  wire::Header header;  // payload_bytes says how much follows
  static constexpr std::size_t kInlineBytes = 128 - 4 - sizeof(wire::Header);
  std::byte inline_bytes[kInlineBytes];
};
static_assert(sizeof(Descriptor) == 128);

struct SlotHeader {
  // Written once by the producer, which is the peer, when it claims the slot.
  std::atomic<std::uint32_t> ready{0};
  ProcessId producer;
  // Written by the producer where it leads in the choice of ways: what WayChoice says.
  std::atomic<std::uint32_t> way{0};
  // Written by the consumer; the producer reads them when its own view says that the ring is full.
  alignas(64) std::atomic<std::uint64_t> descriptors_consumed{0};
  std::atomic<std::uint64_t> payload_consumed{0};
  std::atomic<std::uint64_t> credit_returned{0};
  // The consumer cannot reach the producer in turn: nothing of this ring will be read.
  std::atomic<std::uint32_t> refused{0};
  std::atomic<std::uint32_t> advice{0};  // Channel::advise
  // Written by the producer before it sleeps for want of room.
  alignas(64) std::atomic<std::uint32_t> producer_waits{0};
  CopyJob jobs[kJobs];
};

constexpr std::size_t round_to_page(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

inline constexpr std::size_t kSegmentHeaderBytes = round_to_page(sizeof(SegmentHeader));
inline constexpr std::size_t kDescriptorsOffset = round_to_page(sizeof(SlotHeader));
static_assert(kDescriptorsOffset == kPage);
inline constexpr std::size_t kPayloadOffset =
    kDescriptorsOffset + kDescriptors * sizeof(Descriptor);
inline constexpr std::size_t kSlotBytes = kPayloadOffset + kPayloadBytes;
inline constexpr std::size_t kSegmentBytes = kSegmentHeaderBytes + kMaxSlots * kSlotBytes;

inline constexpr std::uint32_t kSlabSlots = 16;

constexpr std::size_t slot_offset(std::uint32_t slot) {
  return kSegmentHeaderBytes + slot * kSlotBytes;
}

// Typed views of a mapped slot.
struct SlotView {
  std::byte* base = nullptr;
  SlotHeader& header() const noexcept { return *reinterpret_cast<SlotHeader*>(base); }
  Descriptor& descriptor(std::uint64_t index) const noexcept {
    return reinterpret_cast<Descriptor*>(base + kDescriptorsOffset)[index % kDescriptors];
  }
  std::byte* payload(std::uint64_t position) const noexcept {
    return base + kPayloadOffset + position % kPayloadBytes;
  }
};

constexpr std::uint32_t full_sequence(std::uint64_t index) {
  return static_cast<std::uint32_t>(index / kDescriptors) * 2 + 1;
}

}  // namespace mooncake_mpi::shm
