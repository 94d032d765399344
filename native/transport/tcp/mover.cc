// Pieces of large messages, both ways. Engine lock held for every call.
#include "transport/tcp/mover.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "transport/tcp/channel.h"
#include "transport/tcp/tcp_transport.h"

namespace mooncake_mpi::tcp {
namespace {

constexpr std::size_t kTurnBytes = 256 * 1024;  // of one connection, each way
// A connection that had nothing, or no room, is left alone for a while: every look takes the lock
// that the system needs to bring more, and the fewer bytes a look finds the more of them, and of
// acknowledgements, there are. Not where little is missing.
constexpr std::uint64_t kPauseNs = 20'000;
constexpr std::size_t kLittle = 64 * 1024;

iovec span_of(const std::byte* data, std::size_t bytes) noexcept {
  return {const_cast<std::byte*>(data), bytes};
}

}  // namespace

TcpMover::TcpMover(TcpTransport& transport, TcpChannel& channel)
    : transport_(transport), channel_(channel) {
  channel.mover_ = this;
}

TcpMover::~TcpMover() {
  abandon();
  channel_.mover_ = nullptr;
}

wire::LaneId TcpMover::lane() const noexcept {
  return kLane;
}

bool TcpMover::is_sending() const noexcept {
  return !servings_.empty() ||
         std::ranges::any_of(streams_, [](const auto& stream) { return stream->sends(); });
}

void TcpMover::add_stream(std::uint32_t number, std::shared_ptr<Socket> socket) {
  auto stream = std::make_unique<Stream>();
  stream->number = number;
  stream->spill.resize(wire::kMaxTcpPiece);
  stream->socket = std::move(socket);
  streams_.push_back(std::move(stream));
}

bool TcpMover::is_armed() const noexcept {
  return std::ranges::any_of(streams_, &Stream::armed, &std::unique_ptr<Stream>::operator*);
}

void TcpMover::arm() noexcept {
  for (const auto& stream : streams_) {
    const bool wanted = stream->sends() || !servings_.empty();
    if (wanted == stream->armed) continue;
    stream->armed = wanted;
    const std::uint32_t events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
    transport_.sockets().change(stream->socket->descriptor(), events, channel_.number_);
  }
}

void TcpMover::close_streams() noexcept {
  for (const auto& stream : streams_)
    transport_.let_go(*stream->socket);
  streams_.clear();  // what a piece is read from or into is not touched any more
}

void TcpMover::abandon() noexcept {
  close_streams();
  reads_.clear();
  servings_.clear();
  ended_ = 0;
}

// What is sent stays where it is until the peer's FIN, or until stop(): nothing has to be opened.
Answer TcpMover::expose(const Buffer& buffer, Access access, Exposure& exposure) noexcept {
  if (access != Access::kRead || buffer.device != nullptr || buffer.address == nullptr ||
      buffer.bytes < transport_.config().stream_bytes || !channel_.connected()) {
    return Answer::kNo;
  }
  channel_.want_streams();
  if (streams_.empty()) return Answer::kNo;
  const wire::TcpKey key{.streams = static_cast<std::uint32_t>(streams_.size())};
  exposure.key_bytes = sizeof key;
  std::memcpy(exposure.key.data(), &key, sizeof key);
  return Answer::kYes;
}

bool TcpMover::start_read(const Move& into, Bytes key, PacketSink& sink) {
  if (!wire::decode_tcp_key(key) || into.sink != nullptr || into.address == nullptr ||
      streams_.empty() || channel_.failed()) {
    return false;
  }
  try {
    reads_.push_back(
        {.ticket = next_ticket_, .id = into.id, .address = into.address, .bytes = into.bytes});
  } catch (const std::bad_alloc&) {
    return false;
  }
  const wire::TcpFetch fetch{next_ticket_++, into.bytes};
  transport_.attend_later(channel_);
  sink.send_note(channel_.peer(), kLane, into.peer_id, wire::raw_bytes(fetch));
  return true;
}

bool TcpMover::on_note(const Move& local, Bytes note, PacketSink&) {
  const auto fetch = wire::decode_tcp_fetch(note);
  if (!fetch || fetch->bytes > local.bytes || local.address == nullptr || streams_.empty()) {
    return false;
  }
  servings_.push_back(
      {.ticket = fetch->ticket, .id = local.id, .address = local.address, .bytes = fetch->bytes});
  transport_.attend_later(channel_);
  return true;
}

// What the connections have begun with goes out of a copy, and the peer hears that there is no
// more. All of it may have been begun with: then there is nothing left to serve.
void TcpMover::stop(std::uint64_t id) noexcept {
  for (Serving& serving : servings_) {
    if (serving.id != id) continue;
    serving.stopped = true;
    serving.address = nullptr;
  }
  for (const auto& stream : streams_) {
    if (stream->out_bytes == 0 || stream->out_id != id || stream->spilled()) continue;
    std::memcpy(stream->spill.data(), stream->out_data, stream->out_bytes);
    stream->out_data = stream->spill.data();
  }
}

// Nothing of it has to be waited for: what still comes is nobody's.
void TcpMover::hurry(std::uint64_t id) noexcept {
  for (Read& read : reads_) {
    if (read.id == id && read.error == Error::kNone && read.received < read.bytes) {
      end_read(read, Error::kOther);
    }
  }
}

void TcpMover::end_read(Read& read, Error error) noexcept {
  read.error = error;
  if (error != Error::kNone) read.address = nullptr;
  ++ended_;
  for (const auto& stream : streams_) {
    if (stream->in_bytes != 0 && stream->in_ticket == read.ticket) stream->in_data = nullptr;
  }
}

TcpMover::Read* TcpMover::find_read(std::uint64_t ticket) noexcept {
  const auto found = std::ranges::find(reads_, ticket, &Read::ticket);
  return found != reads_.end() ? &*found : nullptr;
}

unsigned TcpMover::advance(PacketSink& sink) {
  unsigned count = 0;
  for (const auto& stream : streams_) {
    count += receive_some(*stream);
    count += send_some(*stream);
    if (channel_.failed()) return count;
  }
  if (ended_ != 0) count += report(sink);
  return count;
}

// --- out ---

// The next piece of the oldest message that has one.
bool TcpMover::next_piece(Stream& stream) {
  while (!servings_.empty()) {
    Serving& serving = servings_.front();
    if (serving.given == serving.bytes) {
      servings_.erase(servings_.begin());
      continue;
    }
    stream.out = {.ticket = serving.ticket};
    stream.out_id = serving.id;
    stream.out_head_sent = 0;
    if (serving.stopped) {
      servings_.erase(servings_.begin());
      stream.out_bytes = 0;
      return true;
    }
    const std::uint64_t bytes =
        std::min<std::uint64_t>(serving.bytes - serving.given, wire::kMaxTcpPiece);
    stream.out.offset = serving.given;
    stream.out.bytes = static_cast<std::uint32_t>(bytes);
    stream.out_data = serving.address + serving.given;
    stream.out_bytes = bytes;
    serving.given += bytes;
    return true;
  }
  return false;
}

unsigned TcpMover::send_some(Stream& stream) {
  unsigned count = 0;
  if (stream.send_from_ns != 0 && now_ns() < stream.send_from_ns) return 0;
  stream.send_from_ns = 0;
  for (std::size_t sent_bytes = 0; sent_bytes < kTurnBytes;) {
    if (!stream.has_piece() && !next_piece(stream) && !stream.socket->owes()) break;
    const auto head = wire::raw_bytes(stream.out).subspan(stream.out_head_sent);
    std::array<iovec, 2> pieces;
    std::size_t filled = 0;
    if (!head.empty()) pieces[filled++] = span_of(head.data(), head.size());
    if (stream.out_bytes != 0) pieces[filled++] = span_of(stream.out_data, stream.out_bytes);
    const ssize_t result = stream.socket->send(std::span(pieces).first(filled));
    if (result == 0 || result == -EAGAIN) {
      if (stream.has_piece()) stream.send_from_ns = now_ns() + kPauseNs;
      break;
    }
    if (result < 0) {
      channel_.lose(std::strerror(static_cast<int>(-result)));
      break;
    }
    ++count;
    const auto sent = static_cast<std::size_t>(result);
    const std::size_t of_head = std::min(sent, head.size());
    stream.out_head_sent += of_head;
    stream.out_data += sent - of_head;
    stream.out_bytes -= sent - of_head;
    sent_bytes += sent;
  }
  return count;
}

// --- in ---

// A whole head: false where it makes no sense.
bool TcpMover::take_head(Stream& stream) {
  stream.head_bytes = 0;
  const auto in = wire::decode_tcp_piece(stream.head);
  if (!in) return false;
  Read* read = find_read(in->ticket);
  const bool wanted = read != nullptr && read->address != nullptr;
  if (in->bytes == 0) {
    if (wanted && read->received < read->bytes) end_read(*read, Error::kOther);
    return true;
  }
  stream.in_ticket = in->ticket;
  stream.in_bytes = in->bytes;
  stream.in_data = nullptr;
  if (!wanted) return true;
  if (in->offset > read->bytes || in->bytes > read->bytes - in->offset) return false;
  stream.in_data = read->address + in->offset;
  return true;
}

void TcpMover::take_bytes(Stream& stream, std::size_t bytes) {
  stream.in_bytes -= bytes;
  if (stream.in_data == nullptr) return;
  stream.in_data += bytes;
  Read* read = find_read(stream.in_ticket);
  if (read == nullptr) return;
  read->received += bytes;
  if (read->received == read->bytes) end_read(*read, Error::kNone);
}

unsigned TcpMover::receive_some(Stream& stream) {
  unsigned count = 0;
  if (stream.receive_from_ns != 0 && now_ns() < stream.receive_from_ns) return 0;
  stream.receive_from_ns = 0;
  for (std::size_t received_bytes = 0; received_bytes < kTurnBytes;) {
    // The next head comes with the bytes before it.
    std::array<iovec, 2> pieces;
    std::size_t filled = 0;
    const std::span<std::byte> nowhere = transport_.inbox();
    const std::size_t data_bytes =
        stream.in_data != nullptr ? stream.in_bytes : std::min(stream.in_bytes, nowhere.size());
    if (data_bytes != 0) {
      pieces[filled++] =
          span_of(stream.in_data != nullptr ? stream.in_data : nowhere.data(), data_bytes);
    }
    if (data_bytes == stream.in_bytes) {
      pieces[filled++] =
          span_of(stream.head.data() + stream.head_bytes, stream.head.size() - stream.head_bytes);
    }
    const ssize_t result = stream.socket->receive(std::span(pieces).first(filled));
    if (result == -EAGAIN) {
      if (stream.in_bytes > kLittle) stream.receive_from_ns = now_ns() + kPauseNs;
      break;
    }
    if (result <= 0) {
      channel_.lose(result == 0 ? "it has closed a connection"
                                : std::strerror(static_cast<int>(-result)));
      break;
    }
    ++count;
    const auto received = static_cast<std::size_t>(result);
    received_bytes += received;
    const std::size_t of_data = std::min(received, data_bytes);
    if (of_data != 0) take_bytes(stream, of_data);
    stream.head_bytes += received - of_data;
    if (stream.head_bytes == stream.head.size() && !take_head(stream)) {
      channel_.lose("it sends pieces that nobody asked for");
      break;
    }
  }
  return count;
}

// The receives that are over; what one of them answers may need memory, and then stays.
unsigned TcpMover::report(PacketSink& sink) {
  unsigned count = 0;
  for (std::size_t i = 0; i < reads_.size() && ended_ != 0;) {
    const Read read = reads_[i];
    if (read.error == Error::kNone && read.received < read.bytes) {
      ++i;
      continue;
    }
    sink.on_moved(channel_.peer(), read.id, read.error);
    const auto again = std::ranges::find(reads_, read.ticket, &Read::ticket);
    if (again == reads_.end()) break;  // abandoned
    reads_.erase(again);
    --ended_;
    ++count;
    i = 0;
  }
  return count;
}

}  // namespace mooncake_mpi::tcp
