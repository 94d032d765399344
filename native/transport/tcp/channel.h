#pragma once

// The way of packets to one peer over a connection, once there is one. Engine lock held for every
// call.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/linux/sockets.h"
#include "transport/transport.h"
#include "wire/tcp.h"

namespace mooncake_mpi::tcp {

class TcpTransport;
class TcpMover;
using linux_driver::Socket;

class TcpChannel final : public Channel {
 public:
  TcpChannel(TcpTransport& transport, const wire::Address& address, Peer& peer);
  ~TcpChannel() override;

  // --- Channel ---
  bool try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept override;
  std::size_t max_payload_bytes() const noexcept override { return wire::kMaxTcpPayload; }
  bool is_far() const noexcept override { return true; }
  void return_credit(std::uint32_t bytes) noexcept override;
  std::uint64_t returned_credit() const noexcept override { return peer_credit_; }
  void abandon() noexcept override;
  std::vector<std::string> troubles() const override;
  std::string route() const override;
  void want_room(bool wanted) noexcept override;

  // --- for the transport ---
  Peer& peer() const noexcept { return peer_; }
  const wire::Address& address() const noexcept { return address_; }
  bool connected() const noexcept { return socket_ != nullptr; }
  bool failed() const noexcept { return failed_; }
  bool abandoned() const noexcept { return abandoned_; }
  const std::string& reason() const noexcept { return reason_; }
  Socket* socket() const noexcept { return socket_.get(); }
  // The connection is there. Throws for want of memory: then it is not.
  void open(std::shared_ptr<Socket> socket, bool called);
  // Takes what has arrived, for a while; how much there was.
  unsigned receive(PacketSink& sink);
  // What was begun goes on; true: nothing of it is left.
  bool flush() noexcept;
  bool has_unsent() const noexcept {
    return out_end_ != out_begin_ || (socket_ != nullptr && socket_->owes());
  }
  bool holds() const noexcept { return socket_ != nullptr && socket_->holds(); }
  // Eager bytes that the peer does not know yet to be free.
  std::uint64_t owed_credit() const noexcept { return returned_ - told_; }
  void tell_credit() noexcept;
  // What is gathered goes now.
  void push() noexcept {
    if (gathers_) flush();
  }
  bool drained() noexcept;
  void lose(std::string_view reason) noexcept;
  // Connections for large messages are wanted.
  void want_streams() noexcept;
  // Before this process sleeps: what may wake it.
  void arm() noexcept;
  bool is_armed() const noexcept;
  void leave_behind() noexcept;

 private:
  friend class TcpTransport;
  friend class TcpMover;

  // Bytes that were received and not delivered yet, in the transport's inbox.
  struct Held {
    TcpChannel* channel = nullptr;
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  bool may_gather(std::size_t bytes, std::uint64_t now) const noexcept;
  void gather(const wire::Header& header, Bytes prefix, Bytes payload, std::uint64_t now) noexcept;
  void end_gathering() noexcept;
  ssize_t read_some(Held& held) noexcept;
  unsigned deliver(PacketSink& sink);
  void take(const wire::TcpHead& head, Bytes payload, PacketSink& sink);
  bool is_whole(std::size_t bytes) const noexcept;

  TcpTransport& transport_;
  const wire::Address address_;
  Peer& peer_;
  std::uint64_t number_ = 0;
  TcpMover* mover_ = nullptr;
  std::shared_ptr<Socket> socket_;
  bool called_ = false;  // by this process
  bool failed_ = false;
  bool abandoned_ = false;
  bool broken_ = false;  // what arrives makes no sense
  bool reported_ = false;
  bool attention_ = false;
  bool owes_ = false;
  bool wants_room_ = false;
  bool wants_streams_ = false;
  bool may_be_unconfirmed_ = false;
  bool armed_ = false;  // its events include that there is room
  std::string reason_;

  std::uint64_t returned_ = 0;  // eager bytes of the peer
  std::uint64_t told_ = 0;      // of them
  std::uint64_t owed_since_ns_ = 0;
  std::uint64_t peer_credit_ = 0;

  // The rest of a packet that found no room; or, while it gathers, packets that go together.
  std::vector<std::byte> out_;
  std::size_t out_begin_ = 0;
  std::size_t out_end_ = 0;
  bool gathers_ = false;
  std::uint64_t gathers_since_ns_ = 0;
  std::uint64_t last_packet_ns_ = 0;
  std::uint32_t last_packet_poll_ = 0;
  std::vector<std::byte> partial_;  // the beginning of a packet
  std::size_t partial_bytes_ = 0;
};

}  // namespace mooncake_mpi::tcp
