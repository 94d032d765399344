// Messages that are announced first: a mover reads or writes their bytes, or they are streamed.
// Offers tell each side what the other's movers can do. Engine lock held for every call.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "memory/memory_device.h"
#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

namespace {

Move move_of(const Operation& operation, std::uint64_t bytes) noexcept {
  return {.id = operation.id(),
          .peer_id = operation.remote_id,
          .address = operation.buffer.device == nullptr ? operation.buffer.address : nullptr,
          .bytes = bytes,
          .device = operation.buffer.device,
          .source = operation.supply.get(),
          .sink = operation.sink.get()};
}

// The first of the offers that the peer's movers here can make use of.
template <class Start>
bool start_any(const Peer& peer, Bytes offers, Start&& start) {
  for (wire::Offer offer; wire::next_offer(offers, offer);) {
    Mover* mover = peer.mover(offer.lane);
    if (mover != nullptr && start(*mover, offer.key)) return true;
  }
  return false;
}

}  // namespace

// Opens the operation's buffer to the movers of the peer; false: there is no room for that now.
bool Protocol::offer(Operation& operation, Access access, wire::Offers& offers) {
  const auto& movers = operation.peer->movers;
  const std::size_t count = std::min(movers.size(), kMaxMovers);
  operation.path = TransferPath::kStream;
  Exposure exposure;
  for (std::size_t i = 0; i < count; ++i) {
    Mover& mover = *movers[i];
    const Answer answer = mover.expose(operation.buffer, access, exposure);
    if (answer == Answer::kNo) continue;
    if (answer == Answer::kNotNow) [[unlikely]] {
      conceal(operation);
      return false;
    }
    if (!offers.add(mover.lane(), Bytes(exposure.key).first(exposure.key_bytes))) [[unlikely]] {
      if (exposure.handle != Exposure::kNone) mover.conceal(exposure.handle);
      break;
    }
    if (operation.path == TransferPath::kStream) operation.path = mover.path();
    if (exposure.handle != Exposure::kNone) {
      operation.exposures[i] = std::exchange(exposure.handle, Exposure::kNone);
      operation.unusual = true;
    }
  }
  return true;
}

void Protocol::conceal(Operation& operation) noexcept {
  const auto& movers = operation.peer->movers;
  for (std::size_t i = 0; i < movers.size() && i < kMaxMovers; ++i) {
    if (operation.exposures[i] != Exposure::kNone) movers[i]->conceal(operation.exposures[i]);
  }
  operation.exposures = kNotExposed;
}

bool Protocol::announce_rendezvous(Operation& send) {
  wire::Offers offers;
  if (!offer(send, Access::kRead, offers)) return false;
  std::byte rts[sizeof(wire::Rts)];
  wire::encode(wire::Rts{send.id()}, rts);
  wire::Header header = send.header;
  header.kind = wire::Kind::kRts;
  if (send.supply == nullptr && is_announced_on_advice(*send.peer, send.buffer)) {
    header.flags = wire::kOnAdvice;
  }
  header.payload_bytes = static_cast<std::uint32_t>(sizeof rts + offers.bytes().size());
  if (!send.peer->channel->try_send(header, Bytes(rts, sizeof rts), offers.bytes())) {
    conceal(send);
    return false;
  }
  send.stage = Stage::kAnnounced;
  ++counters_.rendezvous_sent;
  if (send.supply != nullptr) [[unlikely]]
    consider_parking(send);
  return true;
}

void Protocol::start_transfer(Operation& receive, Peer& from, std::uint64_t send_id, Bytes offers) {
  receive.remote_id = send_id;
  receive.transferred_bytes = 0;
  receive.stage = Stage::kMoving;
  if (from.failure != Error::kNone) [[unlikely]] {  // its memory is gone
    abort(receive, from.failure);
    return;
  }
  if (receive.transfer_bytes == 0 && receive.completion.message_bytes == 0) [[unlikely]] {
    ask_of_nothing(receive);
    return;
  }
  if (receive.transfer_bytes == 0) {
    send_control(from, wire::Fin{send_id, 0, 0});
    finish_receive(receive);
    return;
  }
  const Move into = move_of(receive, receive.transfer_bytes);
  const bool reading = start_any(from, offers, [&](Mover& mover, Bytes key) {
    receive.path = mover.path();
    return mover.start_read(into, key, *sink_);
  });
  if (!reading) ask(receive);
}

// A message without bytes has come when its sender says so: a stream may have yet to come to it.
void Protocol::ask_of_nothing(Operation& receive) {
  receive.stage = Stage::kStreaming;
  receive.may_be_written = false;
  receive.window_end = 0;
  wire::Cts cts{};
  cts.send_id = receive.remote_id;
  cts.receive_id = receive.id();
  send_control(*receive.peer, cts);
}

// Asks the sender for the bytes: the way that always works. A receive into host memory takes them
// all at once, a sink as many as it has room for.
void Protocol::ask(Operation& receive) {
  receive.stage = Stage::kStreaming;
  std::uint64_t length = receive.transfer_bytes - receive.transferred_bytes;
  wire::Offers offers;
  receive.may_be_written = false;
  receive.path = TransferPath::kStream;
  if (receive.sink != nullptr) {
    length = receive.sink->room(receive.transferred_bytes, length).size();
    const bool waits = static_cast<ListLink<WorkTag>&>(receive).linked();
    if (length == 0) {  // later
      if (!waits) work_.push_back(receive);
      return;
    }
    if (waits) IntrusiveList<Operation, WorkTag>::remove(receive);
  } else if (receive.transferred_bytes == 0) {
    if (!offer(receive, Access::kWrite, offers)) offers = {};
    receive.may_be_written = !offers.empty();
  }
  receive.window_end = receive.transferred_bytes + length;
  const wire::Cts cts{.send_id = receive.remote_id,
                      .receive_id = receive.id(),
                      .offset = receive.transferred_bytes,
                      .length = length,
                      .total = receive.transfer_bytes};
  send_control(*receive.peer, cts, 0, offers.bytes());
}

void Protocol::on_moved(Peer& peer, std::uint64_t id, Error error) {
  outbox_memory_.reserve();
  Operation* operation = operations_.find(id);
  if (operation == nullptr || operation->stage != Stage::kMoving || operation->peer != &peer) {
    return;
  }
  if (operation->kind == Operation::Kind::kReceive) {
    finish_moved(*operation, error);
  } else if (error != Error::kNone) {
    // Until FIN the receiver has heard of nothing: it gets a stream from the start.
    stream_from_start(*operation);
  } else {
    send_control(peer, wire::Fin{operation->remote_id, 0, 0});
    count(*operation, operation->transfer_bytes);
    complete(*operation, Error::kNone);
  }
}

void Protocol::finish_moved(Operation& receive, Error error) {
  if (receive.moved) [[unlikely]] {
    receive.moved = false;
    std::vector<std::byte> offers;
    follow_move(*receive.peer, receive.remote_id, offers);
    start_transfer(receive, *receive.peer, receive.remote_id, offers);
    return;
  }
  if (error == Error::kBuffer) {
    send_control(*receive.peer, wire::Fin{receive.remote_id, 1, 0});
    receive.completion.error = error;
    complete(receive, error);
  } else if (error != Error::kNone) {
    receive.shared = receive.unusual = true;
    ask(receive);
  } else {
    send_control(*receive.peer, wire::Fin{receive.remote_id, 0, 0});
    finish_receive(receive);
  }
}

void Protocol::on_cts(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Cts cts;
  if (wire::decode(header, payload, cts) != wire::Error::kNone) {
    ++counters_.packets_rejected;
    return;
  }
  Operation* send = find_send(from, cts.send_id);
  if (send == nullptr) return;
  const bool first = send->stage == Stage::kAnnounced && cts.offset == 0;
  const bool next =
      send->stage == Stage::kStreaming && cts.total != 0 && cts.offset == send->transferred_bytes &&
      send->transferred_bytes == send->window_end && cts.total == send->transfer_bytes;
  if (cts.total > send->buffer.bytes || (!first && !next)) {
    ++counters_.packets_rejected;
    return;
  }
  if (first) forget_parking(*send);
  if (send->shared) {  // the receiver began with a shared copy and can go on with it no longer
    for (const auto& mover : from.movers)
      mover->stop(send->id());
  }
  send->remote_id = cts.receive_id;
  send->transfer_bytes = cts.total;
  send->transferred_bytes = cts.offset;
  send->window_end = cts.offset + cts.length;
  send->path = TransferPath::kStream;
  if (first && cts.length < cts.total) tell_of_detour(from, *send, cts);
  if (first && cts.length == cts.total && cts.total != 0) {
    send->stage = Stage::kMoving;
    const Move move = move_of(*send, cts.total);
    const bool writing = start_any(from, payload.subspan(sizeof cts), [&](Mover& mover, Bytes key) {
      send->path = mover.path();
      return mover.start_write(move, key, *sink_);
    });
    if (!writing) send->path = TransferPath::kStream;
    if (writing) {
      send->shared = send->unusual = true;  // it is told when the operation ends before it does
      return;
    }
  }
  send->stage = Stage::kStreaming;
  work_.push_back(*send);
}

void Protocol::stream_from_start(Operation& send) {
  send.transferred_bytes = 0;
  send.window_end = send.transfer_bytes;
  send.path = TransferPath::kStream;
  send.stage = Stage::kStreaming;
  work_.push_back(send);
}

void Protocol::on_path(std::uint64_t id, TransferPath path) noexcept {
  if (Operation* operation = operations_.find(id)) operation->path = path;
}

// Where the processor cannot touch one end of a message, all other ways have led through memory of
// the host.
void Protocol::count(const Operation& operation, std::uint64_t bytes) noexcept {
  if (bytes == 0) return;
  TransferPath path = operation.path;
  if (operation.given_back) {
    path = TransferPath::kParked;
  } else if (operation.buffer.device != nullptr && !operation.buffer.device->is_host() &&
             !is_between_devices(path)) {
    path = TransferPath::kStaged;
  }
  if (operation.kind == Operation::Kind::kSend) {
    operation.peer->transfers.count_sent(path, bytes);
  } else {
    operation.peer->transfers.count_received(path, bytes);
  }
}

// Who asks for a part of the bytes has them in memory of a device, too, and no mover between the
// two was to be had. Where there is one it has said itself why it does not move them.
void Protocol::tell_of_detour(Peer& from, const Operation& send, const wire::Cts& cts) noexcept {
  const bool has_mover = std::ranges::any_of(
      from.movers, [](const auto& mover) { return mover->path() == TransferPath::kPush; });
  if (send.buffer.device != nullptr && !has_mover) sink_->on_detour(from, cts.total, {});
}

// A note for a mover of this process, about an operation that the peer knows of.
void Protocol::on_note(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Note note;
  if (wire::decode(header, payload, note) != wire::Error::kNone) {
    ++counters_.packets_rejected;
    return;
  }
  Operation* operation = operations_.find(note.id);
  Mover* mover = from.mover(static_cast<wire::LaneId>(note.lane));
  const Stage expected = operation != nullptr && operation->kind == Operation::Kind::kSend
                             ? Stage::kAnnounced
                             : Stage::kMoving;
  if (operation == nullptr || mover == nullptr || operation->peer != &from ||
      operation->stage != expected) {
    ++counters_.packets_rejected;
    return;
  }
  const bool sends = operation->kind == Operation::Kind::kSend;
  const std::uint64_t bytes = sends ? operation->buffer.bytes : operation->transfer_bytes;
  if (!mover->on_note(move_of(*operation, bytes), payload.subspan(sizeof note), *sink_)) {
    ++counters_.packets_rejected;
  } else if (sends) {
    operation->shared = operation->unusual = true;
    from.took_ns = now_ns();
  }
}

void Protocol::send_note(Peer& peer, wire::LaneId lane, std::uint64_t id, Bytes note) {
  send_control(peer, wire::Note{id, lane, 0}, 0, note);
}

}  // namespace mooncake_mpi
