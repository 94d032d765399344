// Packets: one call of the system for each, from where its bytes are, or for several small ones
// that follow each other; the rest of what finds no room is kept. What arrives is read into the
// transport's inbox and delivered from there. Engine lock held for every call.
#include "transport/tcp/channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "transport/tcp/mover.h"
#include "transport/tcp/tcp_transport.h"
#include "wire/payload.h"

namespace mooncake_mpi::tcp {
namespace {

constexpr std::size_t kHeadBytes = wire::kTcpHeadBytes;
constexpr std::size_t kMostPacketBytes = kHeadBytes + wire::kMaxTcpPayload;

// Longer ones are not copied to go together with others.
constexpr std::size_t kMostGatheredPacket = 4 * 1024;
constexpr std::size_t kMuchGathered = 16 * 1024;
constexpr std::uint64_t kGatherNs = 20'000;
static_assert(kMuchGathered + kMostGatheredPacket <= kMostPacketBytes);

iovec piece(const std::byte* data, std::size_t bytes) noexcept {
  return {const_cast<std::byte*>(data), bytes};
}

}  // namespace

TcpChannel::TcpChannel(TcpTransport& transport, const wire::Address& address, Peer& peer)
    : transport_(transport), address_(address), peer_(peer) {}

TcpChannel::~TcpChannel() {
  abandon();
  transport_.remove(*this);
}

void TcpChannel::open(std::shared_ptr<Socket> socket, bool called) {
  out_.resize(kMostPacketBytes);
  partial_.resize(kMostPacketBytes);
  socket_ = std::move(socket);
  called_ = called;
}

void TcpChannel::lose(std::string_view reason) noexcept {
  if (failed_) return;
  failed_ = true;
  try {
    reason_ = reason;
  } catch (const std::bad_alloc&) {  // then there are no words for it
  }
  transport_.attend_later(*this);
}

void TcpChannel::abandon() noexcept {
  failed_ = abandoned_ = true;
  transport_.let_go(*this);
  if (mover_ != nullptr) mover_->close_streams();
  end_gathering();
  socket_.reset();
  out_begin_ = out_end_ = partial_bytes_ = 0;
}

std::vector<std::string> TcpChannel::troubles() const {
  if (socket_ != nullptr) return {};
  return transport_.lobby().troubles(address_.uid);
}

std::string TcpChannel::route() const {
  if (socket_ == nullptr) return "not connected yet";
  return to_string(socket_->local()) + " to " + to_string(socket_->remote());
}

// --- what goes out ---

// A call of the system costs many times what a small packet costs. So packets that follow each
// other closely go together: the first at once, and those behind it when this process next polls,
// which every call that waits does, or the watcher sees that it does not (TcpTransport::gathers()).
bool TcpChannel::may_gather(std::size_t bytes, std::uint64_t now) const noexcept {
  if (bytes > kMostGatheredPacket) return false;
  if (out_end_ != out_begin_) return gathers_;
  if (socket_->owes()) return false;
  return transport_.polling_ ||
         (last_packet_poll_ == transport_.polls_ &&
          now - last_packet_ns_ < transport_.config().closely_ns && transport_.watches());
}

void TcpChannel::gather(const wire::Header& header, Bytes prefix, Bytes payload,
                        std::uint64_t now) noexcept {
  if (!gathers_) {
    gathers_ = true;
    gathers_since_ns_ = now;
    out_begin_ = out_end_ = 0;
    transport_.gathers(*this, now);
  }
  const auto append = [this](const void* data, std::size_t bytes) {
    if (bytes != 0) std::memcpy(out_.data() + out_end_, data, bytes);
    out_end_ += bytes;
  };
  append(&returned_, sizeof returned_);
  append(&header, sizeof header);
  append(prefix.data(), prefix.size());
  append(payload.data(), payload.size());
  told_ = returned_;
  if (out_end_ >= kMuchGathered || now - gathers_since_ns_ >= kGatherNs) flush();
}

// Whatever is left of it has found no room.
void TcpChannel::end_gathering() noexcept {
  if (!gathers_) return;
  gathers_ = false;
  may_be_unconfirmed_ = true;
  transport_.has_gathered();
}

bool TcpChannel::try_send(const wire::Header& header, Bytes prefix, Bytes payload) noexcept {
  if (socket_ == nullptr || failed_) return false;
  wire::Header complete = header;
  complete.payload_bytes = static_cast<std::uint32_t>(prefix.size() + payload.size());
  const std::size_t bytes = kHeadBytes + complete.payload_bytes;
  const std::uint64_t now = now_ns();
  if (may_gather(bytes, now)) {
    gather(complete, prefix, payload, now);
    return true;
  }
  if (socket_->owes() && !flush()) return false;
  std::array<std::byte, kHeadBytes + kMaxPrefixBytes> head;
  const std::uint64_t credit = returned_;
  std::memcpy(head.data(), &credit, sizeof credit);
  std::memcpy(head.data() + sizeof(wire::TcpFrame), &complete, sizeof complete);
  if (!prefix.empty()) std::memcpy(head.data() + kHeadBytes, prefix.data(), prefix.size());
  const std::size_t head_bytes = kHeadBytes + prefix.size();
  const std::size_t before = out_end_ - out_begin_;
  std::array<iovec, 3> pieces;
  std::size_t filled = 0;
  if (before != 0) pieces[filled++] = piece(out_.data() + out_begin_, before);
  pieces[filled++] = piece(head.data(), head_bytes);
  if (!payload.empty()) pieces[filled++] = piece(payload.data(), payload.size());
  const ssize_t result = socket_->send(std::span(pieces).first(filled));
  if (before != 0) end_gathering();
  if (result <= 0) [[unlikely]] {
    if (result != 0 && result != -EAGAIN) lose(std::strerror(static_cast<int>(-result)));
    return false;
  }
  const auto sent = static_cast<std::size_t>(result);
  if (sent <= before) {  // nothing of this one
    out_begin_ += sent;
    return false;
  }
  told_ = credit;
  may_be_unconfirmed_ = true;
  last_packet_ns_ = now_ns();
  last_packet_poll_ = transport_.polls_;
  out_begin_ = out_end_ = 0;
  if (sent == before + bytes) [[likely]] {
    if (socket_->owes()) [[unlikely]]
      transport_.attend_later(*this);
    return true;
  }
  const std::size_t of_this = sent - before;
  if (of_this < head_bytes) {
    std::memcpy(out_.data(), head.data() + of_this, head_bytes - of_this);
    out_end_ = head_bytes - of_this;
  }
  const Bytes rest = payload.subspan(of_this - std::min(of_this, head_bytes));
  if (!rest.empty()) std::memcpy(out_.data() + out_end_, rest.data(), rest.size());
  out_end_ += rest.size();
  transport_.attend_later(*this);
  return true;
}

bool TcpChannel::flush() noexcept {
  while (out_end_ != out_begin_) {
    const iovec rest = piece(out_.data() + out_begin_, out_end_ - out_begin_);
    const ssize_t sent = socket_->send(std::span(&rest, 1));
    end_gathering();
    if (sent == 0 || sent == -EAGAIN) return false;
    if (sent < 0) {
      lose(std::strerror(static_cast<int>(-sent)));
      return false;
    }
    out_begin_ += static_cast<std::size_t>(sent);
  }
  if (!socket_->owes()) [[likely]]
    return true;
  const ssize_t pushed = socket_->send({});
  if (pushed < 0 && pushed != -EAGAIN) lose(std::strerror(static_cast<int>(-pushed)));
  return !failed_ && !socket_->owes();
}

void TcpChannel::want_room(bool wanted) noexcept {
  wants_room_ = wanted && socket_ != nullptr && !failed_;
  if (wants_room_) transport_.attend_later(*this);
}

bool TcpChannel::is_armed() const noexcept {
  return armed_ || mover_->is_armed();
}

void TcpChannel::arm() noexcept {
  if (socket_ == nullptr || failed_) return;
  const bool wanted = has_unsent() || wants_room_;
  if (wanted != armed_) {
    armed_ = wanted;
    const std::uint32_t events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
    transport_.sockets().change(socket_->descriptor(), events, number_);
  }
  mover_->arm();
}

// In a forked child: the parent's epoll is left alone.
void TcpChannel::leave_behind() noexcept {
  socket_.reset();
  if (mover_ != nullptr) mover_->leave_behind();
}

void TcpChannel::return_credit(std::uint32_t bytes) noexcept {
  returned_ += bytes;
  transport_.owes_credit(*this);
}

// Other packets tell it, too.
void TcpChannel::tell_credit() noexcept {
  if (owed_credit() == 0) return;
  std::array<std::byte, sizeof(wire::Credit)> bytes;
  wire::encode(wire::Credit{returned_}, bytes.data());
  try_send(wire::control_header(wire::Kind::kCredit, 0, 0, sizeof(wire::Credit)), bytes, {});
}

// Who has called opens the other connections, too: that direction is not in a firewall's way.
void TcpChannel::want_streams() noexcept {
  if (wants_streams_ || socket_ == nullptr || failed_ || transport_.config().streams == 0) return;
  if (!called_) {
    const auto header = wire::control_header(wire::kTcpMoreStreams, 0, 0, 0);
    wants_streams_ = try_send(header, {}, {});
    return;
  }
  try {
    for (std::uint32_t stream = 1; stream <= transport_.config().streams; ++stream)
      transport_.lobby().call(address_, stream);
    wants_streams_ = true;
    transport_.nudge();
  } catch (const std::bad_alloc&) {  // the next large message asks again
  }
}

bool TcpChannel::drained() noexcept {
  if (failed_ || socket_ == nullptr) return true;
  if (has_unsent() && !flush()) return failed_;
  if (mover_ != nullptr && mover_->is_sending()) return false;
  if (may_be_unconfirmed_ && socket_->unconfirmed_bytes() != 0) return false;
  may_be_unconfirmed_ = false;
  return true;
}

// --- what comes in ---

// Whether so many bytes of partial_ are a packet.
bool TcpChannel::is_whole(std::size_t bytes) const noexcept {
  if (bytes < kHeadBytes) return false;
  wire::Header header;
  std::memcpy(&header, partial_.data() + sizeof(wire::TcpFrame), sizeof header);
  return bytes == kHeadBytes + header.payload_bytes;
}

// The rest of the packet that was begun goes behind its beginning, what follows into the inbox.
ssize_t TcpChannel::read_some(Held& held) noexcept {
  std::span<std::byte> inbox = transport_.inbox();
  std::array<iovec, 2> pieces;
  std::size_t missing = 0;
  if (partial_bytes_ >= kHeadBytes) {
    wire::Header header;
    std::memcpy(&header, partial_.data() + sizeof(wire::TcpFrame), sizeof header);
    missing = kHeadBytes + header.payload_bytes - partial_bytes_;
  } else if (partial_bytes_ != 0) {
    std::memcpy(inbox.data(), partial_.data(), partial_bytes_);
    inbox = inbox.subspan(partial_bytes_);
  }
  pieces[0] = piece(partial_.data() + partial_bytes_, missing);
  pieces[1] = piece(inbox.data(), inbox.size());
  const ssize_t result =
      socket_->receive(missing != 0 ? std::span(pieces) : std::span(pieces).last(1));
  if (result <= 0) return result;
  const auto received = static_cast<std::size_t>(result);
  if (missing != 0) {
    const std::size_t here = std::min(missing, received);
    partial_bytes_ += here;
    held = {this, 0, received - here};
  } else {
    held = {this, 0, partial_bytes_ + received};
    partial_bytes_ = 0;
  }
  return result;
}

unsigned TcpChannel::receive(PacketSink& sink) {
  if (socket_ == nullptr || broken_) return 0;
  unsigned count = 0;
  for (std::size_t turns = 0; turns < TcpTransport::kTurns; ++turns) {
    const ssize_t received = read_some(transport_.held_);
    if (received == -EAGAIN) break;
    if (received <= 0) {
      lose(received == 0 ? "it has closed the connection"
                         : std::strerror(static_cast<int>(-received)));
      break;
    }
    count += deliver(sink);
    if (broken_ || static_cast<std::size_t>(received) < transport_.inbox().size() / 2) break;
  }
  if (socket_ != nullptr && (socket_->owes() || socket_->holds())) [[unlikely]]
    transport_.attend_later(*this);
  return count;
}

// A packet that there is no memory for stays held, and the next poll begins with it.
unsigned TcpChannel::deliver(PacketSink& sink) {
  unsigned count = 1;
  Held& held = transport_.held_;
  if (is_whole(partial_bytes_)) {
    take(*wire::decode_tcp_head(partial_),
         Bytes(partial_).subspan(kHeadBytes, partial_bytes_ - kHeadBytes), sink);
    partial_bytes_ = 0;
    ++count;
  }
  const Bytes inbox = transport_.inbox();
  while (!broken_) {
    const Bytes rest = inbox.subspan(held.begin, held.end - held.begin);
    if (rest.size() >= kHeadBytes) {
      const auto head = wire::decode_tcp_head(rest);
      if (!head) {
        broken_ = true;
        lose("it sends what no process of this version sends");
        break;
      }
      const std::size_t whole = kHeadBytes + head->header.payload_bytes;
      if (rest.size() >= whole) {
        take(*head, rest.subspan(kHeadBytes, whole - kHeadBytes), sink);
        held.begin += whole;
        ++count;
        continue;
      }
    }
    if (!rest.empty()) {
      std::memcpy(partial_.data() + partial_bytes_, rest.data(), rest.size());
      partial_bytes_ += rest.size();
    }
    break;
  }
  held = {};
  return count;
}

void TcpChannel::take(const wire::TcpHead& head, Bytes payload, PacketSink& sink) {
  peer_credit_ = std::max(peer_credit_, head.frame.credit);
  if (head.header.kind == wire::Kind::kCredit) return;
  if (head.header.kind == wire::kTcpMoreStreams) [[unlikely]] {
    if (called_) want_streams();
    return;
  }
  sink.on_packet(peer_, head.header, payload);
}

}  // namespace mooncake_mpi::tcp
