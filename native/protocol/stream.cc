// Rendezvous where the receiver cannot read the sender's memory. If the sender can write the
// receiver's, it does so alone; otherwise it puts the bytes into the channel, fragment by fragment
// as room allows, and the receiver takes them out.
#include <algorithm>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

namespace {

constexpr std::uint32_t kWriteBytes = 256 * 1024;  // then other traffic has its turn

}  // namespace

void Protocol::start_writing(Operation& send, Reach reach) {
  send.transferred_bytes = 0;
  send.job = Channel::kNoJob;
  set_chunks(send, kWriteBytes);
  send.stage = reach == Reach::kNone ? Stage::kStreaming : Stage::kCopying;
  work_.push_back(send);
}

// Until FIN the receiver has heard of nothing: a sender that fails at writing streams from the
// start.
unsigned Protocol::advance_writing(Operation& send) {
  if (write_chunk(send, send.next_chunk) != Error::kNone) {
    send.stage = Stage::kStreaming;
    return 1;
  }
  if (++send.next_chunk < send.chunk_count) return 1;
  send_control(*send.peer, wire::Fin{send.remote_id, 0, 0});
  complete(send, Error::kNone);
  return 1;
}

// FIN for a receive whose bytes the sender has written; false when it is for something else.
bool Protocol::finish_written(Peer& from, const wire::Fin& fin) {
  Operation* receive = operations_.find(fin.id);
  if (receive == nullptr || receive->kind != Operation::Kind::kReceive) return false;
  if (receive->peer != &from || receive->stage != Stage::kStreaming ||
      receive->transferred_bytes != 0) {
    ++counters_.packets_rejected;
  } else {
    complete(*receive, fin.status == 0 ? Error::kNone : Error::kOther);
  }
  return true;
}

unsigned Protocol::advance_stream(Operation& send) {
  if (send.kind == Operation::Kind::kReceive) return 0;
  Channel& channel = *send.peer->channel;
  const std::uint64_t room = channel.packet_payload_bytes() - sizeof(wire::Data);
  unsigned sent = 0;
  // Not before what is already queued, lest the peer's packets change their order.
  while (send.peer->outbox.empty() && send.transferred_bytes < send.transfer_bytes) {
    const std::uint64_t left = send.transfer_bytes - send.transferred_bytes;
    const Bytes bytes = bytes_at(send, send.transferred_bytes, std::min(room, left));
    std::byte data[sizeof(wire::Data)];
    wire::encode(wire::Data{send.remote_id, send.transferred_bytes}, data);
    wire::Header header = wire::control_header(
        wire::Kind::kData, 0, 0, static_cast<std::uint32_t>(sizeof data + bytes.size()));
    if (!channel.try_send(header, Bytes(data, sizeof data), bytes)) break;
    send.transferred_bytes += bytes.size();
    ++sent;
  }
  counters_.fragments_sent += sent;
  if (send.transferred_bytes == send.transfer_bytes) complete(send, Error::kNone);
  return sent;
}

void Protocol::on_data(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Data data;
  if (wire::decode(header, payload, data) != wire::Error::kNone) {
    ++counters_.packets_rejected;
    return;
  }
  payload = payload.subspan(sizeof data);
  Operation* receive = operations_.find(data.receive_id);
  if (receive == nullptr || receive->kind != Operation::Kind::kReceive || receive->peer != &from ||
      receive->stage != Stage::kStreaming || data.offset != receive->transferred_bytes ||
      payload.size() > receive->transfer_bytes - data.offset) {
    ++counters_.packets_rejected;
    return;
  }
  std::memcpy(receive->buffer.address + data.offset, payload.data(), payload.size());
  receive->transferred_bytes += payload.size();
  if (receive->transferred_bytes == receive->transfer_bytes) complete(*receive, Error::kNone);
}

}  // namespace mooncake_mpi
