// Who has claimed a ring into this process, what has come through the rings, and how packets are
// pushed into those of peers. Engine lock held for every call.
#include "transport/shm/shm_transport.h"

#include <utility>

#include "transport/shm/mover.h"
#include "wire/shm_address.h"

namespace mooncake_mpi::shm {

Result<std::unique_ptr<ShmTransport>> ShmTransport::create(
    const wire::Address& self, std::unique_ptr<linux_driver::ProcessMemory> process_memory,
    std::unique_ptr<RegionMapper> region_mapper, const CopyConfig& copy, MoverCounters& counters) {
  Result<OwnSegment> segment = OwnSegment::create(self.uid);
  if (!segment) return segment.failure();
  return std::unique_ptr<ShmTransport>(new ShmTransport(self, std::move(segment).value(),
                                                        std::move(process_memory),
                                                        std::move(region_mapper), copy, counters));
}

namespace {

std::optional<wire::ShmAddress> segment_of(const wire::Address& address) {
  return wire::decode_shm_address(address.section(ShmTransport::kLane));
}

}  // namespace

ShmTransport::ShmTransport(const wire::Address& self, OwnSegment segment,
                           std::unique_ptr<linux_driver::ProcessMemory> process_memory,
                           std::unique_ptr<RegionMapper> region_mapper, const CopyConfig& copy,
                           MoverCounters& counters)
    : process_(self.uid),
      host_(self.host),
      segment_(std::move(segment)),
      process_memory_(std::move(process_memory)),
      region_mapper_(std::move(region_mapper)),
      work_(copy, counters) {
  std::memcpy(&probe_word_, process_.data(), sizeof probe_word_);
  probe_word_ |= 1;  // zero would be what an unmapped probe looks like
}

void ShmTransport::describe(wire::Address& address) const {
  const wire::ShmAddress mine{.descriptor = segment_.descriptor(),
                              .segment_bytes = kSegmentBytes,
                              .probe_address = reinterpret_cast<std::uint64_t>(&probe_word_),
                              .probe_magic = probe_word_};
  address.add(kLane, std::as_bytes(std::span(&mine, 1)));
}

int ShmTransport::board_descriptor(const wire::Address& peer) const {
  const auto segment = segment_of(peer);
  return segment ? segment->descriptor : -1;
}

std::string ShmTransport::unreachable_reason(const wire::Address& peer) const {
  if (peer.host != host_) return "another host";
  const auto segment = segment_of(peer);
  if (!segment) return "the peer has no shared memory segment";
  if (segment->segment_bytes != kSegmentBytes) return "the peer's segment has another layout";
  return {};
}

// Whether this process may read the peer's memory: asked of the kernel, since Yama, seccomp,
// containers and capabilities all have a say.
bool ShmTransport::probe(const linux_driver::RemoteProcess& process) const {
  std::uint64_t word = 0;
  return process_memory_->read(process, &word, process.probe_address, sizeof word) == 0 &&
         word == process.probe_word;
}

Result<Way> ShmTransport::connect(const wire::Address& address, Peer& peer) {
  const wire::ShmAddress segment = segment_of(address).value_or(wire::ShmAddress{});
  linux_driver::RemoteProcess process{address.pid, segment.probe_address, segment.probe_magic};
  Result<PeerSlot> slot = PeerSlot::claim(address.pid, segment.descriptor, address.uid, process_);
  if (!slot) return slot.failure();
  auto channel = std::make_unique<ShmChannel>(*this, std::move(slot).value(), peer);
  const bool can_read = probe(process);
  process.mark = &channel->slot_.header().mark;
  auto mover =
      std::make_unique<ShmMover>(*this, *channel, process, can_read, process_ < address.uid);
  channels_[&peer] = channel.get();
  for (const auto& incoming : incoming_) {
    if (incoming->peer == &peer) {
      incoming->channel = channel.get();
      channel->incoming_ = incoming.get();
    }
  }
  if (channel->incoming_ == nullptr) ++unanswered_;
  channel->ring();
  return Way{std::move(channel), std::move(mover)};
}

void ShmTransport::accept(PacketSink& sink) {
  const std::uint32_t claimed =
      std::min(segment_.header().slots_claimed.load(std::memory_order_acquire), kMaxSlots);
  unaccepted_.reserve(claimed);
  while (slots_seen_ < claimed)
    unaccepted_.push_back(slots_seen_++);
  std::erase_if(unaccepted_, [&](std::uint32_t index) {
    const SlotView slot = segment_.slot(index);
    if (slot.base == nullptr) return false;
    if (slot.header().ready.load(std::memory_order_acquire) == 0) return false;
    Peer* peer = sink.on_connect(slot.header().producer);
    if (peer == nullptr) {
      if (!sink.refuses(slot.header().producer)) return false;
      slot.header().refused.store(1, std::memory_order_release);
      return true;
    }
    incoming_.reserve(incoming_.size() + 1);  // all that can fail comes first
    auto incoming = std::make_unique<Incoming>(slot, *peer);
    if (auto known = channels_.find(peer); known != channels_.end()) {
      incoming->channel = known->second;
      known->second->incoming_ = incoming.get();
      --unanswered_;
    }
    incoming_.push_back(std::move(incoming));
    return true;
  });
}

unsigned ShmTransport::drain(Incoming& incoming, PacketSink& sink) {
  constexpr unsigned kBatch = 32;  // then the next peer has its turn
  unsigned count = 0;
  while (count < kBatch && incoming.ring.ready()) {
    const bool sane = incoming.ring.consume([&](const wire::Header& header, Bytes payload) {
      sink.on_packet(*incoming.peer, header, payload);
    });
    if (!sane) {
      incoming.broken = true;
      break;
    }
    ++count;
  }
  if (count != 0 && incoming.ring.publish_if_due() && incoming.channel != nullptr) {
    incoming.channel->ring();
  }
  return count;
}

unsigned ShmTransport::poll(PacketSink& sink) {
  if (segment_.header().slots_claimed.load(std::memory_order_relaxed) != slots_seen_ ||
      !unaccepted_.empty()) [[unlikely]] {
    accept(sink);
  }
  unsigned count = 0;
  for (const auto& incoming : incoming_) {
    if (incoming->ring.ready() && !incoming->broken) count += drain(*incoming, sink);
  }
  if (unanswered_ != 0) [[unlikely]]
    look_for_refusal(sink);
  return count + work_.advance(sink);
}

// Of the peers that this process has called and that have not answered.
void ShmTransport::look_for_refusal(PacketSink& sink) {
  for (const auto& [peer, channel] : channels_) {
    if (channel->incoming_ != nullptr || !channel->is_refused()) continue;
    sink.on_failure(*peer, "the process cannot reach this one in turn");  // the channel goes
    return;
  }
}

void ShmTransport::drain(Peer& peer, PacketSink& sink) {
  accept(sink);
  for (const auto& incoming : incoming_) {
    if (incoming->peer != &peer) continue;
    while (incoming->ring.ready() && !incoming->broken)
      drain(*incoming, sink);
  }
}

// The slot stays claimed, but its pages go back to the system.
void ShmTransport::forget(Peer& peer) {
  std::erase_if(incoming_, [&](const std::unique_ptr<Incoming>& incoming) {
    if (incoming->peer != &peer) return false;
    if (incoming->channel != nullptr) {
      incoming->channel->incoming_ = nullptr;
      ++unanswered_;
    }
    segment_.discard(incoming->slot);
    return true;
  });
}

ShmChannel::ShmChannel(ShmTransport& transport, PeerSlot slot, Peer& peer)
    : transport_(transport), slot_(std::move(slot)), producer_(slot_.view()), peer_(peer) {}

ShmChannel::~ShmChannel() {
  transport_.channels_.erase(&peer_);
  if (incoming_ != nullptr) {
    incoming_->channel = nullptr;
  } else {
    --transport_.unanswered_;
  }
}

bool ShmChannel::try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept {
  if (!producer_.try_push(header, prefix, payload)) return false;
  slot_.header().doorbell.ring(header.kind > wire::Kind::kEagerSync);
  return true;
}

void ShmChannel::return_credit(std::uint32_t bytes) noexcept {
  if (incoming_ == nullptr) return;
  incoming_->ring.add_credit(bytes);
  if (incoming_->ring.publish_if_due()) ring();
}

std::uint64_t ShmChannel::returned_credit() const noexcept {
  return producer_.header().credit_returned.load(std::memory_order_acquire);
}

void ShmChannel::advise(std::uint32_t advice) noexcept {
  if (incoming_ == nullptr) return;
  incoming_->slot.header().advice.store(advice, std::memory_order_relaxed);
}

std::uint32_t ShmChannel::advice() const noexcept {
  return producer_.header().advice.load(std::memory_order_relaxed);
}

void ShmChannel::want_room(bool wanted) noexcept {
  producer_.header().producer_waits.store(wanted ? 1 : 0, std::memory_order_seq_cst);
}

}  // namespace mooncake_mpi::shm
