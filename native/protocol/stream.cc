// Messages whose bytes no mover could take: the sender puts them into the channel, fragment by
// fragment as room allows and as far as the receiver has asked, and the receiver takes them out.
// Engine lock held for every call.
#include <algorithm>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

// FIN for a receive whose bytes the sender has written, or cannot send; false when it is for
// something else.
bool Protocol::finish_written(Peer& from, const wire::Fin& fin) {
  Operation* receive = operations_.find(fin.id);
  if (receive == nullptr || receive->kind != Operation::Kind::kReceive) return false;
  if (receive->peer == &from && receive->stage == Stage::kStreaming && fin.status != 0) {
    complete(*receive, Error::kOther);
  } else if (receive->peer == &from && receive->stage == Stage::kStreaming &&
             receive->transfer_bytes == 0) {
    finish_receive(*receive);
  } else if (receive->peer != &from || receive->stage != Stage::kStreaming ||
             receive->transferred_bytes != 0 || !receive->may_be_written) {
    ++counters_.packets_rejected;
  } else {
    count(*receive, receive->transfer_bytes);
    complete(*receive, Error::kNone);
  }
  return true;
}

Bytes Protocol::bytes_at(const Operation& send, std::uint64_t offset, std::uint64_t most) noexcept {
  if (send.supply != nullptr) return send.supply->at(offset, most);
  return {send.buffer.address + offset, most};
}

unsigned Protocol::advance_stream(Operation& send) {
  if (send.transfer_bytes == 0) [[unlikely]]
    return tell_of_nothing(send);
  Channel& channel = *send.peer->channel;
  const std::uint64_t room = channel.packet_payload_bytes() - sizeof(wire::Data);
  unsigned sent = 0;
  // Not before what is already queued, lest the peer's packets change their order.
  while (send.peer->outbox.empty() && send.transferred_bytes < send.window_end) {
    const std::uint64_t left = send.window_end - send.transferred_bytes;
    const Bytes bytes = bytes_at(send, send.transferred_bytes, std::min(room, left));
    if (bytes.empty()) {
      if (send.supply != nullptr && send.supply->failed()) [[unlikely]]
        return fail_stream(send);
      break;
    }
    std::byte data[sizeof(wire::Data)];
    wire::encode(wire::Data{send.remote_id, send.transferred_bytes}, data);
    wire::Header header = wire::control_header(
        wire::Kind::kData, 0, 0, static_cast<std::uint32_t>(sizeof data + bytes.size()));
    if (!channel.try_send(header, Bytes(data, sizeof data), bytes)) break;
    send.transferred_bytes += bytes.size();
    ++sent;
  }
  counters_.fragments_sent += sent;
  if (send.transferred_bytes == send.transfer_bytes) {
    count(send, send.transfer_bytes);
    complete(send, Error::kNone);
  } else if (send.transferred_bytes == send.window_end) {  // until the receiver asks for more
    IntrusiveList<Operation, WorkTag>::remove(send);
  }
  return sent;
}

// The receiver waits for a message without bytes.
unsigned Protocol::tell_of_nothing(Operation& send) {
  if (send.supply != nullptr && !send.supply->ready()) {
    return send.supply->failed() ? fail_stream(send) : 0;
  }
  send_control(*send.peer, wire::Fin{send.remote_id, 0, 0});
  complete(send, Error::kNone);
  return 1;
}

// The device has failed under the sender: the receiver waits for nothing any more.
unsigned Protocol::fail_stream(Operation& send) {
  send_control(*send.peer, wire::Fin{send.remote_id, 1, 0});
  complete(send, Error::kBuffer);
  return 1;
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
      payload.size() > receive->window_end - data.offset) {
    ++counters_.packets_rejected;
    return;
  }
  receive->transferred_bytes += land(*receive, data.offset, payload);
  if (receive->transferred_bytes == receive->transfer_bytes) {
    receive->path = TransferPath::kStream;
    finish_receive(*receive);
  } else if (receive->transferred_bytes == receive->window_end) {
    ask(*receive);
  }
}

}  // namespace mooncake_mpi
