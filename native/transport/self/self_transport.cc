#include "transport/self/self_transport.h"

#include <new>
#include <utility>

#include "memory/copy.h"

namespace mooncake_mpi {

class SelfChannel final : public Channel {
 public:
  explicit SelfChannel(SelfTransport& transport) noexcept : transport_(transport) {}

  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override {
    if (transport_.packets_.size() >= SelfTransport::kMaxPackets) return false;
    try {
      SelfTransport::Packet packet{header, {}};
      packet.payload.reserve(prefix.size() + payload.size());
      packet.payload.insert(packet.payload.end(), prefix.begin(), prefix.end());
      packet.payload.insert(packet.payload.end(), payload.begin(), payload.end());
      packet.header.payload_bytes = static_cast<std::uint32_t>(packet.payload.size());
      transport_.packets_.push_back(std::move(packet));
      return true;
    } catch (const std::bad_alloc&) {
      return false;  // as if there were no room
    }
  }

  std::size_t max_payload_bytes() const noexcept override { return 32 * 1024; }
  void return_credit(std::uint32_t bytes) noexcept override {
    transport_.credit_returned_ += bytes;
  }
  std::uint64_t returned_credit() const noexcept override { return transport_.credit_returned_; }

 private:
  SelfTransport& transport_;
};

namespace {

class SelfMover final : public CopyMover {
 public:
  using CopyMover::CopyMover;
  wire::LaneId lane() const noexcept override { return SelfTransport::kLane; }
  bool is_mapped(const Buffer&) noexcept override { return true; }
  bool reaches_everything() const noexcept override { return true; }

 private:
  Reach reach(const RemoteMemory&, std::uint64_t) noexcept override { return Reach::kMapped; }
  Error read(void* local, const RemoteMemory& remote, std::size_t bytes,
             bool past_caches) noexcept override {
    return copy(static_cast<std::byte*>(local), reinterpret_cast<const std::byte*>(remote.address),
                bytes, past_caches);
  }
  Error write(const void* local, const RemoteMemory& remote, std::size_t bytes,
              bool past_caches) noexcept override {
    return copy(reinterpret_cast<std::byte*>(remote.address), static_cast<const std::byte*>(local),
                bytes, past_caches);
  }
  static Error copy(std::byte* to, const std::byte* from, std::size_t bytes,
                    bool past_caches) noexcept {
    if (from + bytes <= to || to + bytes <= from) {
      copy_bytes(to, from, bytes, past_caches);
    } else {
      std::memmove(to, from, bytes);  // a program that sends to itself may get this wrong
    }
    return Error::kNone;
  }
};

}  // namespace

Result<Way> SelfTransport::connect(const wire::Address&, Peer& peer) {
  peer_ = &peer;
  return Way{std::make_unique<SelfChannel>(*this), std::make_unique<SelfMover>(work_, peer)};
}

// Only what was there at the start: a message that answers itself must not hold the poll for ever.
unsigned SelfTransport::poll(PacketSink& sink) {
  if (packets_.empty()) [[likely]]
    return work_.advance(sink);
  const std::size_t count = packets_.size();
  for (std::size_t i = 0; i < count; ++i) {
    const Packet& packet = packets_.front();  // stays where it is while others are added
    sink.on_packet(*peer_, packet.header, packet.payload);
    packets_.pop_front();
  }
  return static_cast<unsigned>(count) + work_.advance(sink);
}

}  // namespace mooncake_mpi
