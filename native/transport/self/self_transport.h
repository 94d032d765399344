#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "transport/copy/copy_mover.h"
#include "transport/transport.h"

namespace mooncake_mpi {

// This process sending to itself: packets wait in a queue until the next poll, and a large message
// is copied from where it is.
class SelfTransport final : public Transport {
 public:
  static constexpr wire::LaneId kLane = 1;

  SelfTransport(const ProcessId& process, const CopyConfig& copy, MoverCounters& counters) noexcept
      : process_(process), work_(copy, counters) {}

  std::string_view name() const noexcept override { return "self"; }
  void describe(wire::Address&) const override {}
  std::string unreachable_reason(const wire::Address& peer) const override {
    return peer.uid == process_ ? "" : "another process";
  }
  Result<Way> connect(const wire::Address& address, Peer& peer) override;
  bool dormant() const noexcept override { return peer_ == nullptr; }
  unsigned poll(PacketSink& sink) override;

 private:
  friend class SelfChannel;
  static constexpr std::size_t kMaxPackets = 1024;

  struct Packet {
    wire::Header header;
    std::vector<std::byte> payload;
  };

  ProcessId process_;
  Peer* peer_ = nullptr;
  std::deque<Packet> packets_;
  std::uint64_t credit_returned_ = 0;
  CopyWork work_;
};

}  // namespace mooncake_mpi
