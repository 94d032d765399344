// The sending side up to the answer of the receiver. Engine lock held for every call.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/clock.h"
#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

Protocol::~Protocol() {
  contexts_.for_each([this](Context& context) {
    for (auto& matcher : context.matchers) {
      if (matcher == nullptr) continue;
      matcher->for_each_unexpected([&](Unexpected& message) {
        matcher->remove(message);
        unexpected_.release(static_cast<UnexpectedMessage&>(message));
      });
    }
  });
}

// What a packet can hold, whatever was configured.
bool Protocol::fits_packet(const Peer& peer, const Buffer& buffer) const noexcept {
  const Channel& channel = *peer.channel;
  if (buffer.bytes > channel.max_payload_bytes() - sizeof(wire::EagerSync)) return false;
  return buffer.bytes <= (channel.is_far() ? limits_.far_eager_bytes : limits_.eager_bytes) ||
         (has_choice(peer, buffer) && !EagerChoice::announces(channel.advice(), buffer.bytes));
}

bool Protocol::is_announced_on_advice(const Peer& peer, const Buffer& buffer) const noexcept {
  return EagerChoice::announces(peer.channel->advice(), buffer.bytes) && has_choice(peer, buffer);
}

// Where the peer has not mapped the buffer, two copies by the processors may take less time than
// one by the kernel, which looks up page after page: the receiver finds out.
bool Protocol::has_choice(const Peer& peer, const Buffer& buffer) const noexcept {
  return buffer.bytes > limits_.eager_bytes && buffer.bytes <= limits_.unmapped_eager_bytes &&
         !peer.channel->is_far() && std::ranges::none_of(peer.movers, [&](const auto& mover) {
           return mover->is_mapped(buffer);
         });
}

// The sender's side of the bound on the receiver's unexpected queue: eager bytes on their way or
// unmatched. Without credit a message goes by rendezvous, which stores an envelope only, and each
// envelope has an operation of the sender behind it.
bool Protocol::credit_left(Peer& peer, std::uint64_t bytes) noexcept {
  const std::uint64_t cost = bytes + kMessageOverhead;
  return peer.credit_used + cost - peer.channel->returned_credit() <= limits_.unexpected_bytes;
}

bool Protocol::try_send_now(Peer& peer, const wire::Header& header, const Buffer& buffer) {
  if (!fits_packet(peer, buffer) || !peer.outbox.empty() || peer.failure != Error::kNone ||
      !credit_left(peer, buffer.bytes)) {
    return false;
  }
  wire::Header eager = header;
  eager.kind = wire::Kind::kEager;
  eager.payload_bytes = static_cast<std::uint32_t>(buffer.bytes);
  if (!peer.channel->try_send(eager, {}, Bytes(buffer.address, buffer.bytes))) return false;
  peer.credit_used += buffer.bytes + kMessageOverhead;
  ++counters_.eager_sent;
  return true;
}

Result<Operation*> Protocol::send(const Context& context, std::int32_t dest, MatchChannel channel,
                                  std::int32_t tag, const Buffer& buffer, SendMode mode,
                                  std::unique_ptr<Source> source) {
  const Context::Member& member = context.members[static_cast<std::size_t>(dest)];
  std::unique_ptr<std::byte[]> kept;
  if (mode == SendMode::kBuffered && source == nullptr && buffer.bytes != 0) {
    kept.reset(new (std::nothrow) std::byte[buffer.bytes]);
    if (kept == nullptr) return Failure{Error::kNoMemory, "no memory for a buffered message"};
    std::memcpy(kept.get(), buffer.address, buffer.bytes);
  }
  Operation& operation = operations_.acquire(Operation::Kind::kSend);
  operation.peer = member.peer;
  operation.buffer = buffer;
  if (kept != nullptr) operation.buffer.address = kept.get();
  operation.owned_buffer = std::move(kept);
  if (source != nullptr) {
    operation.supply = std::move(source);
    operation.unusual = true;
  }
  operation.header = header(context, member, channel, tag, buffer);
  operation.context_number = context.number;
  operation.completion.source = context.rank;
  operation.completion.dest = dest;
  operation.completion.tag = tag;
  operation.completion.bytes = buffer.bytes;
  start_send(operation, mode == SendMode::kSynchronous);
  return &operation;
}

void Protocol::send_notice(const Context& context, const Context::Member& member,
                           MatchChannel channel, std::int32_t tag) {
  Operation& notice = operations_.acquire(Operation::Kind::kSend);
  notice.peer = member.peer;
  notice.buffer = {};
  notice.header = header(context, member, channel, tag, {});
  notice.context_number = context.number;
  notice.owned = false;
  start_send(notice, false);
}

void Protocol::start_send(Operation& send, bool synchronous) {
  Peer& peer = *send.peer;
  add(active_, 1);
  send.header.kind = synchronous ? wire::Kind::kEagerSync : wire::Kind::kEager;
  send.stage = Stage::kQueued;
  if (peer.failure != Error::kNone) {
    complete(send, peer.failure);
    return;
  }
  if (peer.outbox.empty() && announce(send)) return;
  try {
    queue(peer).operation = &send;
  } catch (...) {  // no memory: as if it had never been started
    add(active_, -1);
    operations_.release(send);
    throw;
  }
}

// Puts the message, or word of it, into the channel; false when there is no room.
bool Protocol::announce(Operation& send) {
  Peer& peer = *send.peer;
  wire::Header header = send.header;
  const Buffer& buffer = send.buffer;
  if (send.supply != nullptr || !fits_packet(peer, buffer) || !credit_left(peer, buffer.bytes)) {
    return announce_rendezvous(send);
  }
  const Bytes bytes(buffer.address, buffer.bytes);
  if (header.kind == wire::Kind::kEagerSync) {
    header.payload_bytes = static_cast<std::uint32_t>(sizeof(wire::EagerSync) + buffer.bytes);
    std::byte sync[sizeof(wire::EagerSync)];
    wire::encode(wire::EagerSync{send.id()}, sync);
    if (!peer.channel->try_send(header, Bytes(sync, sizeof sync), bytes)) return false;
    send.stage = Stage::kAnnounced;
  } else {
    header.payload_bytes = static_cast<std::uint32_t>(buffer.bytes);
    if (!peer.channel->try_send(header, {}, bytes)) return false;
  }
  peer.credit_used += buffer.bytes + kMessageOverhead;
  ++counters_.eager_sent;
  if (header.kind == wire::Kind::kEager) complete(send, Error::kNone);
  return true;
}

// The send that a peer's answer names; answers come from another process, so nothing is taken on
// trust.
Operation* Protocol::find_send(Peer& from, std::uint64_t id) {
  Operation* send = operations_.find(id);
  const bool fits = send != nullptr && send->kind == Operation::Kind::kSend &&
                    send->peer == &from && send->stage != Stage::kQueued &&
                    send->stage != Stage::kDone;
  if (!fits) ++counters_.packets_rejected;
  return fits ? send : nullptr;
}

void Protocol::on_ack(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Ack ack;
  if (wire::decode(header, payload, ack) != wire::Error::kNone) {
    ++counters_.packets_rejected;
  } else if (Operation* send = find_send(from, ack.send_id)) {
    complete(*send, Error::kNone);
  }
}

void Protocol::on_fin(Peer& from, const wire::Header& header, Bytes payload) {
  wire::Fin fin;
  if (wire::decode(header, payload, fin) != wire::Error::kNone) {
    ++counters_.packets_rejected;
  } else if (finish_written(from, fin)) {
    return;
  } else if (Operation* send = find_send(from, fin.id)) {
    if (fin.status == wire::kNobodyReceives && send->owned) {
      send->undeliverable_since_ns = now_ns();
      send->unusual = true;
      add(undeliverable_, 1);
      return;
    }
    if (fin.status == 0) count(*send, send->buffer.bytes);
    if (fin.status == wire::kRevokedThere) [[unlikely]]
      hear_of_revocation(*send);
    complete(*send, fin.status == 0 ? Error::kNone : refusal(*send));
  }
}

// The message is still in this process's own queue of unexpected ones; it is not afterwards.
bool Protocol::take_back_from_self(const Operation& send) {
  Context* context = contexts_.find(send.header.context);
  MatchChannel channel;
  if (context == nullptr || !ContextTable::channel_of(send.header.context, channel)) return false;
  Matcher& matcher = context->matcher(channel);
  bool taken = false;
  matcher.for_each_unexpected([&](Unexpected& unexpected) {
    auto& message = static_cast<UnexpectedMessage&>(unexpected);
    if (message.peer != send.peer || message.send_id != send.id()) return;
    matcher.remove(message);
    if (message.is_eager()) {
      send.peer->channel->return_credit(
          static_cast<std::uint32_t>(message.header.length() + kMessageOverhead));
    }
    unexpected_.release(message);
    taken = true;
  });
  return taken;
}

bool Protocol::cancel(Operation& operation, MatchChannel channel) {
  if (operation.given_back) return false;
  if (operation.stage == Stage::kPosted) {
    operation.context->matcher(channel).cancel(operation);
  } else if (operation.kind == Operation::Kind::kSend && operation.stage == Stage::kQueued) {
    drop_from_outbox(operation);
  } else if (operation.stage != Stage::kAnnounced || !operation.peer->is_self ||
             !take_back_from_self(operation)) {
    return false;
  }
  operation.completion.cancelled = true;
  complete(operation, Error::kNone);
  return true;
}

void Protocol::complete(Operation& operation, Error error) {
  if (static_cast<ListLink<WorkTag>&>(operation).linked()) {
    IntrusiveList<Operation, WorkTag>::remove(operation);
  }
  if (operation.completion.error == Error::kNone && !operation.given_back) {
    operation.completion.error = error;
  }
  operation.stage = Stage::kDone;
  add(active_, -1);
  if (operation.background) add(background_, -1);
  CompletionWatch* watch = nullptr;
  if (operation.unusual) [[unlikely]]
    watch = end_unusual(operation);
  if (!operation.owned) {
    operations_.release(operation);
    return;
  }
  operation.done.store(Operation::kFinished, std::memory_order_release);
  if (doorbell_ != nullptr && doorbell_->sleepers.load(std::memory_order_relaxed) != 0) {
    doorbell_->wake();
  }
  if (operation.unusual) [[unlikely]]
    tell_of_unusual(operation, watch);
}

// What few operations have to be rid of, before anybody knows that they are done.
CompletionWatch* Protocol::end_unusual(Operation& operation) {
  if (operation.undeliverable_since_ns != 0) add(undeliverable_, -1);
  if (operation.given_back) parked_bytes_ -= operation.buffer.bytes;
  if (operation.exposures != kNotExposed) conceal(operation);
  if (operation.shared) {
    for (const auto& mover : operation.peer->movers) {
      operation.kind == Operation::Kind::kSend ? mover->stop(operation.id())
                                               : mover->on_streamed(*sink_);
    }
  }
  // Once they are gone nothing of the devices' touches the program's memory.
  operation.sink.reset();
  operation.supply.reset();
  return std::exchange(operation.watches, nullptr);
}

void Protocol::tell_of_unusual(Operation& operation, CompletionWatch* watch) {
  if (operation.heir != 0) finish_kept(operation);
  while (watch != nullptr) {
    CompletionWatch* next = watch->next_watch;  // it may be gone once it was told
    watch->on_done();
    watch = next;
  }
}

void Protocol::release(Operation& operation) {
  operation.owned = false;
  if (operation.stage == Stage::kDone) operations_.release(operation);
}

}  // namespace mooncake_mpi
