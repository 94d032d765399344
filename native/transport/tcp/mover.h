#pragma once

// Large messages go over connections of their own, straight from the sender's memory into the
// receiver's, so that no packet waits behind them. The receiver asks in a note, the sender's mover
// answers with pieces over any of the connections. Engine lock held for every call.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "drivers/linux/sockets.h"
#include "transport/mover.h"
#include "transport/packet_sink.h"
#include "wire/tcp.h"

namespace mooncake_mpi::tcp {

class TcpTransport;
class TcpChannel;
using linux_driver::Socket;

class TcpMover final : public Mover {
 public:
  TcpMover(TcpTransport& transport, TcpChannel& channel);
  ~TcpMover() override;

  wire::LaneId lane() const noexcept override;
  TransferPath path() const noexcept override { return TransferPath::kStream; }
  Answer expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept override;
  bool start_read(const Move& into, Bytes key, PacketSink& sink) override;
  bool on_note(const Move& local, Bytes note, PacketSink& sink) override;
  void stop(std::uint64_t id) noexcept override;
  void hurry(std::uint64_t id) noexcept override;
  void abandon() noexcept override;

  // --- for the transport ---
  void add_stream(std::uint32_t number, std::shared_ptr<Socket> socket);
  void close_streams() noexcept;
  // Goes on for a while; how much there was to do.
  unsigned advance(PacketSink& sink);
  // Whether a look at the connections may find anything.
  bool is_busy() const noexcept { return !reads_.empty() || is_sending(); }
  bool is_sending() const noexcept;
  void arm() noexcept;
  bool is_armed() const noexcept;
  void leave_behind() noexcept { streams_.clear(); }

 private:
  // A receive whose bytes come.
  struct Read {
    std::uint64_t ticket = 0;
    std::uint64_t id = 0;
    std::byte* address = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t received = 0;
    Error error = Error::kNone;
  };
  // A send whose bytes were asked for.
  struct Serving {
    std::uint64_t ticket = 0;  // the peer's
    std::uint64_t id = 0;
    const std::byte* address = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t given = 0;  // to the connections
    bool stopped = false;     // the sender has its memory back; the peer has yet to hear of it
  };
  struct Stream {
    std::uint32_t number = 0;
    std::shared_ptr<Socket> socket;
    bool armed = false;  // its events include that there is room

    // The piece that goes out: what is left of its head, then of its bytes.
    wire::TcpPiece out;
    std::uint64_t out_id = 0;  // of the operation
    std::size_t out_head_sent = sizeof(wire::TcpPiece);
    const std::byte* out_data = nullptr;
    std::size_t out_bytes = 0;
    std::vector<std::byte> spill;  // its bytes, once their memory is not ours to read any more

    // The piece that comes in.
    std::array<std::byte, sizeof(wire::TcpPiece)> head;
    std::size_t head_bytes = 0;
    std::uint64_t in_ticket = 0;
    std::byte* in_data = nullptr;  // nullptr: nobody wants it
    std::size_t in_bytes = 0;

    // Not before that it is looked at again.
    std::uint64_t send_from_ns = 0;
    std::uint64_t receive_from_ns = 0;

    bool spilled() const noexcept {
      return out_data >= spill.data() && out_data < spill.data() + spill.size();
    }
    bool has_piece() const noexcept { return out_head_sent < sizeof out || out_bytes != 0; }
    bool sends() const noexcept { return has_piece() || socket->owes(); }
  };

  unsigned send_some(Stream& stream);
  bool next_piece(Stream& stream);
  unsigned receive_some(Stream& stream);
  bool take_head(Stream& stream);
  void take_bytes(Stream& stream, std::size_t bytes);
  void end_read(Read& read, Error error) noexcept;
  Read* find_read(std::uint64_t ticket) noexcept;
  unsigned report(PacketSink& sink);

  TcpTransport& transport_;
  TcpChannel& channel_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Read> reads_;
  std::vector<Serving> servings_;  // the oldest first
  std::size_t ended_ = 0;          // of the reads, that have yet to be reported
  std::uint64_t next_ticket_ = 1;
};

}  // namespace mooncake_mpi::tcp
