#pragma once

// Both ends of a slot's ring: one process pushes packets, the other consumes them. At each end one
// thread at a time, under its engine's lock.

#include <cstring>

#include "transport/shm/layout.h"
#include "transport/transport.h"

namespace mooncake_mpi::shm {

// The sending end.
class RingProducer {
 public:
  explicit RingProducer(SlotView slot) noexcept : slot_(slot) {}

  bool try_push(const wire::Header& header, Bytes prefix, Bytes payload) noexcept {
    const std::size_t bytes = prefix.size() + payload.size();
    if (next_ - descriptors_consumed_ >= kDescriptors && !refresh_descriptors()) return false;
    Descriptor& descriptor = slot_.descriptor(next_);
    std::byte* target = descriptor.inline_bytes;
    if (bytes > Descriptor::kInlineBytes) {
      target = reserve_payload(bytes);
      if (target == nullptr) return false;
      std::memcpy(descriptor.inline_bytes, &payload_start_, sizeof payload_start_);
    }
    if (!prefix.empty()) std::memcpy(target, prefix.data(), prefix.size());
    if (!payload.empty()) std::memcpy(target + prefix.size(), payload.data(), payload.size());
    descriptor.header = header;
    descriptor.header.payload_bytes = static_cast<std::uint32_t>(bytes);
    descriptor.sequence.store(full_sequence(next_), std::memory_order_release);
    ++next_;
    return true;
  }

  SlotHeader& header() const noexcept { return slot_.header(); }
  CopyJob& job(std::uint32_t index) const noexcept { return slot_.header().jobs[index]; }

 private:
  bool refresh_descriptors() noexcept {
    descriptors_consumed_ = slot_.header().descriptors_consumed.load(std::memory_order_acquire);
    return next_ - descriptors_consumed_ < kDescriptors;
  }

  // A contiguous run of the payload ring; the rest of a turn that is too short is skipped.
  std::byte* reserve_payload(std::size_t bytes) noexcept {
    std::uint64_t start = payload_next_;
    const std::size_t to_end = kPayloadBytes - start % kPayloadBytes;
    if (to_end < bytes) start += to_end;
    const std::uint64_t end = start + (bytes + 63) / 64 * 64;
    if (end - payload_consumed_ > kPayloadBytes) {
      payload_consumed_ = slot_.header().payload_consumed.load(std::memory_order_acquire);
      if (end - payload_consumed_ > kPayloadBytes) return nullptr;
    }
    payload_start_ = start;
    payload_next_ = end;
    return slot_.payload(start);
  }

  SlotView slot_;
  std::uint64_t next_ = 0;
  std::uint64_t payload_next_ = 0;
  std::uint64_t payload_start_ = 0;
  std::uint64_t descriptors_consumed_ = 0;  // last seen
  std::uint64_t payload_consumed_ = 0;      // last seen
};

// The receiving end: single consumer. What it has consumed is published in batches, since each
// store to that line takes it away from the producer. A producer that sees a full ring has at
// least kDescriptors - kPublishEvery packets still to be consumed, so a batch never strands it;
// the same holds for the payload with kMaxPacketBytes <= 3/8 of the ring.
class RingConsumer {
 public:
  explicit RingConsumer(SlotView slot) noexcept : slot_(slot) {}

  bool ready() const noexcept {
    return slot_.descriptor(next_).sequence.load(std::memory_order_acquire) == full_sequence(next_);
  }

  // Hands the packet at the head to `deliver(header, payload)`, which may return credit, and so
  // publish what was consumed before this packet. Call only after ready().
  // Returns false when the descriptor contradicts itself: the producer cannot be trusted. What
  // `deliver` throws leaves the packet at the head.
  template <class Deliver>
  bool consume(Deliver&& deliver) {
    const Descriptor& descriptor = slot_.descriptor(next_);
    const wire::Header header = descriptor.header;
    const std::byte* data = descriptor.inline_bytes;
    std::uint64_t payload_end = payload_next_;
    if (header.payload_bytes > Descriptor::kInlineBytes) {
      std::uint64_t start;
      std::memcpy(&start, descriptor.inline_bytes, sizeof start);
      if (header.payload_bytes > kMaxPacketBytes ||
          start % kPayloadBytes + header.payload_bytes > kPayloadBytes) {
        return false;
      }
      data = slot_.payload(start);
      payload_end = start + (header.payload_bytes + 63) / 64 * 64;
    }
    deliver(header, Bytes(data, header.payload_bytes));
    payload_next_ = payload_end;
    ++next_;
    return true;
  }

  // True when the producer slept for want of room and must be rung.
  bool publish_if_due() noexcept {
    if (next_ - published_ < kPublishEvery &&
        payload_next_ - payload_published_ < kPayloadBytes / 4 &&
        credit_ - credit_published_ < kCreditBatch) {
      return false;
    }
    SlotHeader& header = slot_.header();
    header.descriptors_consumed.store(published_ = next_, std::memory_order_release);
    header.payload_consumed.store(payload_published_ = payload_next_, std::memory_order_release);
    header.credit_returned.store(credit_published_ = credit_, std::memory_order_release);
    // Pairs with the barrier that the producer issues after it has set the flag.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return header.producer_waits.load(std::memory_order_relaxed) != 0;
  }

  void add_credit(std::uint32_t bytes) noexcept { credit_ += bytes; }
  CopyJob& job(std::uint32_t index) const noexcept { return slot_.header().jobs[index]; }

 private:
  static constexpr std::uint64_t kPublishEvery = kDescriptors / 4;
  static constexpr std::uint64_t kCreditBatch = 64 * 1024;

  SlotView slot_;
  std::uint64_t next_ = 0;
  std::uint64_t published_ = 0;
  std::uint64_t payload_next_ = 0;
  std::uint64_t payload_published_ = 0;
  std::uint64_t credit_ = 0;
  std::uint64_t credit_published_ = 0;
};

static_assert(kMaxPacketBytes * 8 <= kPayloadBytes * 3);
static_assert(sizeof(std::uint64_t) <= Descriptor::kInlineBytes);

}  // namespace mooncake_mpi::shm
