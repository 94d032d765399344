#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "drivers/linux/process_memory.h"
#include "transport/shm/peer_regions.h"
#include "transport/shm/ring.h"
#include "transport/shm/segment.h"
#include "transport/transport.h"

namespace mooncake_mpi::shm {

class ShmChannel;

// Processes of one node: rings in shared memory; large messages by loads and stores where they lie
// in regions, and by cross-memory attach where it is allowed.
class ShmTransport final : public Transport {
 public:
  static Result<std::unique_ptr<ShmTransport>> create(
      const wire::Address& self, std::unique_ptr<linux_driver::ProcessMemory> process_memory,
      std::unique_ptr<RegionMapper> region_mapper);

  std::string_view name() const noexcept override { return "shm"; }
  void describe(wire::Address& address) const override;
  std::string unreachable_reason(const wire::Address& peer) const override;
  Result<std::unique_ptr<Channel>> connect(const wire::Address& address, Peer& peer) override;
  unsigned poll(PacketSink& sink) override;
  void drain(Peer& peer, PacketSink& sink) override;
  void forget(Peer& peer) override;

  Doorbell& doorbell() const noexcept { return segment_.header().doorbell; }
  HangBoard& board() const noexcept { return segment_.header().board; }

 private:
  friend class ShmChannel;

  // One peer's ring into this process.
  struct Incoming {
    Incoming(SlotView view, Peer& from) noexcept : slot(view), ring(view), peer(&from) {}
    SlotView slot;
    RingConsumer ring;
    Peer* peer;
    ShmChannel* channel = nullptr;  // once this process sends to that peer, too
    std::uint32_t jobs_in_use = 0;  // bit mask
    bool broken = false;
  };

  ShmTransport(const wire::Address& self, OwnSegment segment,
               std::unique_ptr<linux_driver::ProcessMemory> process_memory,
               std::unique_ptr<RegionMapper> region_mapper);

  void accept(PacketSink& sink);
  unsigned drain(Incoming& incoming, PacketSink& sink);
  void look_for_refusal(PacketSink& sink);
  bool probe(const wire::Address& address) const;

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
};

class ShmChannel final : public Channel {
 public:
  ShmChannel(ShmTransport& transport, PeerSlot slot, Peer& peer,
             const linux_driver::RemoteProcess& process, bool can_read);
  ~ShmChannel() override;

  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override;
  std::size_t max_payload_bytes() const noexcept override { return kMaxPacketBytes; }
  void return_credit(std::uint32_t bytes) noexcept override;
  std::uint64_t returned_credit() const noexcept override;
  bool can_read_peer() const noexcept override { return can_read_; }
  Reach reach(const RemoteMemory& remote, std::uint64_t bytes) noexcept override;
  Error read_peer(void* local, const RemoteMemory& remote, std::size_t bytes,
                  bool past_caches) noexcept override;
  Error write_peer(const void* local, const RemoteMemory& remote, std::size_t bytes,
                   bool past_caches) noexcept override;
  std::uint32_t acquire_job() noexcept override;
  void release_job(std::uint32_t job) noexcept override;
  CopyJob* own_job(std::uint32_t job) noexcept override;
  CopyJob* peer_job(std::uint32_t job) noexcept override;
  void ring() noexcept override { slot_.header().doorbell.ring(true); }
  void want_room(bool wanted) noexcept override;

  bool is_refused() const noexcept {
    return producer_.header().refused.load(std::memory_order_acquire) != 0;
  }

 private:
  friend class ShmTransport;

  ShmTransport& transport_;
  PeerSlot slot_;
  RingProducer producer_;
  Peer& peer_;
  linux_driver::RemoteProcess process_;
  bool can_read_;  // until the system refuses it
  PeerRegions regions_;
  ShmTransport::Incoming* incoming_ = nullptr;
};

}  // namespace mooncake_mpi::shm
