#pragma once

// The paths to one peer, and the way of packets over one of them at a time. Engine lock held for
// every call.

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "transport/transport.h"
#include "transport/verbs/connection.h"
#include "transport/verbs/pages.h"
#include "transport/verbs/registrations.h"
#include "wire/verbs.h"

namespace mooncake_mpi::verbs {

class VerbsTransport;
class VerbsMover;

// A rail of ours and a rail of the peer. Either side may begin a new epoch, a higher one than both
// have seen; both then make a queue pair for it and connect them.
struct Path {
  enum class State : std::uint8_t {
    kDown,       // no queue pair; tried again
    kOffered,    // ours waits for the peer's
    kConnected,  // ours can receive; the peer may not know yet
    kProving,    // the peer can receive; whether it is reached this way shows the first probe
    kReady,      // both can send
  };
  Rail* rail = nullptr;
  std::uint8_t rail_index = 0;    // of ours
  std::uint8_t remote_index = 0;  // of the peer's
  wire::RailAddress remote;
  State state = State::kDown;
  std::uint32_t epoch = 0;
  Connection* connection = nullptr;
  std::uint32_t slabs = 0;     // of receive buffers
  std::uint64_t retry_ns = 0;  // kDown
  std::string trouble;         // why it is not ready
};

// VerbsMover reads over all paths.
//
// Every packet stays in its slot until the peer has consumed it, so that a path that fails loses
// nothing: what the peer has not consumed is sent again over another one, and the peer drops what
// it has seen. Slots are the credits, too: the peer holds a receive buffer for each.
class VerbsChannel final : public Channel {
 public:
  VerbsChannel(VerbsTransport& transport, const wire::Address& address, Peer& peer);
  ~VerbsChannel() override;
  // Memory and queue pairs; offers them to the peer.
  Result<bool> open();

  // --- Channel ---
  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override;
  std::size_t max_payload_bytes() const noexcept override;
  std::size_t packet_payload_bytes() const noexcept override;
  bool is_far() const noexcept override { return true; }
  void return_credit(std::uint32_t bytes) noexcept override;
  std::uint64_t returned_credit() const noexcept override { return peer_credit_; }
  void abandon() noexcept override;
  std::vector<std::string> troubles() const override;

  // --- for the transport ---
  Peer& peer() const noexcept { return peer_; }
  const ProcessId& process() const noexcept { return address_.uid; }
  bool failed() const noexcept { return failed_; }
  bool abandoned() const noexcept { return abandoned_; }
  // wireup.cc
  void on_hello(const wire::Hello& hello);
  void on_port_event(Rail& rail, bool active);
  // When it needs the next tick, unless something happens.
  static constexpr std::uint64_t kNever = UINT64_MAX;
  std::uint64_t tick(std::uint64_t now);
  // channel.cc
  void on_packet(Bytes packet, PacketSink& sink);
  void on_send_completion(Connection& connection, std::uint32_t request,
                          verbs_driver::Status status);
  // The connection is closed: nothing of it is under way any more.
  void on_closed(Connection& connection);
  // What polling left to do: credits to tell, reads to go on with and to report.
  void attend(PacketSink& sink);
  bool drained();
  void heartbeat();

 private:
  friend class VerbsTransport;
  friend class VerbsMover;

  // channel.cc
  bool has_room(std::uint32_t packets = 1) const noexcept {
    const std::uint32_t last = next_sequence_ + packets - 1;
    return primary_ != nullptr && last - peer_consumed_ <= credits_ &&
           last - sent_complete_ <= kSendSlots && posted_sequence_ + 1 == next_sequence_;
  }
  std::byte* slot(std::uint32_t sequence) const noexcept;
  bool try_send_several(wire::Header header, Bytes prefix, Bytes payload) noexcept;
  void fill_packet(std::uint32_t sequence, const wire::Header& header, Bytes prefix,
                   Bytes payload) noexcept;
  bool post_packet(std::uint32_t sequence) noexcept;
  bool post(Connection& connection, verbs_driver::SendRequest request,
            const Connection::Request& entry, bool signaled) noexcept;
  bool probe(Connection& connection) noexcept;
  void prove(Path& path) noexcept;
  void replay() noexcept;
  void complete_requests(Connection& connection, std::uint32_t end);
  void deliver(const wire::PacketHead& head, Bytes packet, PacketSink& sink);
  void deliver_early(PacketSink& sink);
  void assemble(const wire::Header& header, Bytes bytes, PacketSink& sink);
  void send_credit() noexcept;
  wire::Frame frame(std::uint32_t sequence) noexcept;
  bool owes_credit() const noexcept;

  // wireup.cc
  // After a change of paths what was sent again may lie unread beside what was sent since: the peer
  // sends on as the same packets are consumed that had arrived over the other path.
  std::uint32_t receive_slabs() const noexcept { return paths_.size() > 1 ? 2 : 1; }
  bool begin_epoch(Path& path, std::uint32_t epoch) noexcept;
  bool try_begin_epoch(Path& path);
  bool connect_path(Path& path, const wire::PathOffer& offer);
  void break_path(Path& path, std::uint64_t now) noexcept;
  void make_ready(Path& path);
  void choose_primary() noexcept;
  void note(Path& path, std::string_view trouble, std::string_view more = {}) noexcept;
  void send_hello();

  VerbsTransport& transport_;
  wire::Address address_;
  wire::Rails remote_rails_;
  Peer& peer_;
  std::vector<Path> paths_;
  Connection* primary_ = nullptr;
  bool failed_ = false;
  bool abandoned_ = false;        // and nothing of it is under way
  bool short_of_memory_ = false;  // the last path that could not be begun may be later
  std::string last_error_;
  VerbsMover* mover_ = nullptr;  // while there is one

  // Packets out.
  Pages slots_;
  std::array<std::unique_ptr<verbs_driver::MemoryRegion>, wire::kMaxRails> slot_regions_;
  std::array<std::uint32_t, kSendSlots> slot_bytes_{};
  std::uint32_t credits_ = 0;  // granted by the peer
  std::uint32_t next_sequence_ = 1;
  std::uint32_t posted_sequence_ = 0;  // on the primary path; behind after a change of paths
  std::uint32_t peer_consumed_ = 0;    // our packets, all up to this one
  std::uint32_t sent_complete_ = 0;    // the adapter no longer reads slots up to this one
  std::uint64_t peer_credit_ = 0;

  // Packets in.
  std::uint32_t consumed_ = 0;
  std::uint32_t told_consumed_ = 0;
  std::uint64_t returned_ = 0;
  bool tell_credit_ = false;  // what was told may have been lost with a path
  std::map<std::uint32_t, std::vector<std::byte>> early_;  // arrived before an older one did
  // A payload of several packets, as far as it has come, and the header of the first.
  std::vector<std::byte> assembled_;
  wire::Header assembled_header_{};
  bool assembling_ = false;

  // Wire-up.
  std::uint64_t hello_ns_ = 0;
  std::uint64_t hello_interval_ns_ = 0;
  std::uint32_t hellos_ = 0;
  wire::Key hello_key_;
  std::uint64_t said_moment_ = 0;   // in the last datagram to the peer
  std::uint64_t heard_moment_ = 0;  // in the newest one of the peer
  std::uint64_t deadline_ns_ = 0;   // when no path is ready
  bool attention_ = false;          // in the transport's list
};

}  // namespace mooncake_mpi::verbs
