// Rendezvous where neither process can read the other's memory: the sender puts the bytes into the
// channel, fragment by fragment as room allows, and the receiver takes them out.
#include <algorithm>

#include "protocol/protocol.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

unsigned Protocol::advance_stream(Operation& send) {
  if (send.kind == Operation::Kind::kReceive) return 0;
  Channel& channel = *send.peer->channel;
  const std::uint64_t room = channel.max_payload_bytes() - sizeof(wire::Data);
  unsigned sent = 0;
  // Not before what is already queued, lest the peer's packets change their order.
  while (send.peer->outbox.empty() && send.transferred_bytes < send.transfer_bytes) {
    const std::uint64_t bytes = std::min(room, send.transfer_bytes - send.transferred_bytes);
    std::byte data[sizeof(wire::Data)];
    wire::encode(wire::Data{send.remote_id, send.transferred_bytes}, data);
    wire::Header header = wire::control_header(wire::Kind::kData, 0, 0,
                                               static_cast<std::uint32_t>(sizeof data + bytes));
    if (!channel.try_send(header, Bytes(data, sizeof data),
                          Bytes(send.buffer.address + send.transferred_bytes, bytes))) {
      break;
    }
    send.transferred_bytes += bytes;
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
