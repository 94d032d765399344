#pragma once

// Processes of one node: rings in shared memory; large messages by loads and stores where they lie
// in regions, and by cross-memory attach where it is allowed. Engine lock held for every call.

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "drivers/linux/process_memory.h"
#include "transport/copy/copy_mover.h"
#include "transport/shm/peer_regions.h"
#include "transport/shm/ring.h"
#include "transport/shm/segment.h"
#include "transport/transport.h"

namespace mooncake_mpi::shm {

class ShmChannel;

class ShmMover;

class ShmTransport final : public Transport {
 public:
  static constexpr wire::LaneId kLane = 2;

  static Result<std::unique_ptr<ShmTransport>> create(
      const wire::Address& self, std::unique_ptr<linux_driver::ProcessMemory> process_memory,
      std::unique_ptr<RegionMapper> region_mapper, const CopyConfig& copy, MoverCounters& counters);

  std::string_view name() const noexcept override { return "shm"; }
  void describe(wire::Address& address) const override;
  std::string unreachable_reason(const wire::Address& peer) const override;
  Result<Way> connect(const wire::Address& address, Peer& peer) override;
  unsigned poll(PacketSink& sink) override;
  void drain(Peer& peer, PacketSink& sink) override;
  void forget(Peer& peer) override;

  Doorbell* doorbell() noexcept override { return &segment_.header().doorbell; }
  HangBoard* board() noexcept override { return &segment_.header().board; }
  linux_driver::LifeMark* life_mark() noexcept override { return &segment_.header().mark; }
  int board_descriptor(const wire::Address& peer) const override;

 private:
  friend class ShmChannel;
  friend class ShmMover;

  // One peer's ring into this process.
  struct Incoming {
    Incoming(SlotView view, Peer& from) noexcept : slot(view), ring(view), peer(&from) {}
    SlotView slot;
    RingConsumer ring;
    Peer* peer;
    ShmChannel* channel = nullptr;  // once this process sends to that peer, too
    std::uint64_t jobs_in_use = 0;  // bit mask
    bool broken = false;
  };

  ShmTransport(const wire::Address& self, OwnSegment segment,
               std::unique_ptr<linux_driver::ProcessMemory> process_memory,
               std::unique_ptr<RegionMapper> region_mapper, const CopyConfig& copy,
               MoverCounters& counters);

  void accept(PacketSink& sink);
  unsigned drain(Incoming& incoming, PacketSink& sink);
  void look_for_refusal(PacketSink& sink);
  bool probe(const linux_driver::RemoteProcess& process) const;

  ProcessId process_;
  std::array<std::byte, 16> host_;
  OwnSegment segment_;
  std::unique_ptr<linux_driver::ProcessMemory> process_memory_;
  std::unique_ptr<RegionMapper> region_mapper_;
  std::uint64_t probe_word_;
  std::vector<std::unique_ptr<Incoming>> incoming_;
  std::vector<std::uint32_t> unaccepted_;
  std::uint32_t slots_seen_ = 0;
  std::uint32_t unanswered_ = 0;  // channels without a ring in the other direction
  std::unordered_map<Peer*, ShmChannel*> channels_;
  CopyWork work_;
};

class ShmChannel final : public Channel {
 public:
  ShmChannel(ShmTransport& transport, PeerSlot slot, Peer& peer);
  ~ShmChannel() override;

  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override;
  std::size_t max_payload_bytes() const noexcept override { return kMaxPacketBytes; }
  std::size_t packet_payload_bytes() const noexcept override { return kFragmentBytes; }
  void return_credit(std::uint32_t bytes) noexcept override;
  std::uint64_t returned_credit() const noexcept override;
  void advise(std::uint32_t advice) noexcept override;
  std::uint32_t advice() const noexcept override;
  void want_room(bool wanted) noexcept override;

  void ring() noexcept { slot_.header().doorbell.ring(true); }

  bool is_attended() const noexcept {
    return slot_.header().doorbell.attended.load(std::memory_order_relaxed) != 0;
  }
  bool is_refused() const noexcept {
    return producer_.header().refused.load(std::memory_order_acquire) != 0;
  }

 private:
  friend class ShmTransport;
  friend class ShmMover;

  ShmTransport& transport_;
  PeerSlot slot_;
  RingProducer producer_;
  Peer& peer_;
  ShmTransport::Incoming* incoming_ = nullptr;
};

}  // namespace mooncake_mpi::shm
