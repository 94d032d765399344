// The receiving side: from a packet to a matched receive. Engine lock held for every call.
#include <algorithm>
#include <new>
#include <vector>

#include "base/clock.h"
#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

void Protocol::on_packet(Peer& from, const wire::Header& header, Bytes payload) {
  if (wire::validate(header, sizeof header + payload.size()) != wire::Error::kNone) [[unlikely]] {
    ++counters_.packets_rejected;
    return;
  }
  outbox_memory_.reserve();
  switch (header.kind) {
    case wire::Kind::kEager:
    case wire::Kind::kEagerSync:
    case wire::Kind::kRts:
      return on_message(from, header, payload);
    case wire::Kind::kCts:
      return on_cts(from, header, payload);
    case wire::Kind::kData:
      return on_data(from, header, payload);
    case wire::Kind::kFin:
      return on_fin(from, header, payload);
    case wire::Kind::kAck:
      return on_ack(from, header, payload);
    case wire::Kind::kNote:
      return on_note(from, header, payload);
    case wire::Kind::kCredit:
      ++counters_.packets_rejected;
      return;  // this lane keeps a counter
  }
}

void Protocol::on_message(Peer& from, const wire::Header& header, Bytes payload) {
  std::uint64_t send_id = 0;
  if (header.kind == wire::Kind::kEagerSync) {
    wire::EagerSync sync;
    if (wire::decode(header, payload, sync) != wire::Error::kNone) {
      ++counters_.packets_rejected;
      return;
    }
    send_id = sync.send_id;
    payload = payload.subspan(sizeof sync);
  } else if (header.kind == wire::Kind::kRts) {
    wire::Rts rts;
    if (wire::decode(header, payload, rts) != wire::Error::kNone) {
      ++counters_.packets_rejected;
      return;
    }
    payload = payload.subspan(sizeof rts);  // offers
    if ((header.flags & wire::kMoved) != 0) [[unlikely]]
      return on_moved_elsewhere(from, rts, payload);
    send_id = rts.send_id;
  }

  Context* context = contexts_.find(header.context);
  MatchChannel channel;
  const bool known = context != nullptr && ContextTable::channel_of(header.context, channel) &&
                     header.source < context->size &&
                     (context->members.empty() ||
                      context->members[static_cast<std::size_t>(header.source)].peer == &from ||
                      recognize(*context, header.source, from));
  if (!known) [[unlikely]] {
    reject_message(from, send_id, header);
    return;
  }

  Matcher& matcher = context->matcher(channel);
  if (Posted* posted = matcher.arrive(header.source, header.tag)) {
    auto& receive = static_cast<Operation&>(*posted);
    prepare_receive(receive, from, header);
    if (header.kind == wire::Kind::kRts) {
      start_transfer(receive, from, send_id, payload);
    } else {
      accept_eager(receive, from, header, payload, send_id);
      if (payload.size() > limits_.eager_bytes) consider(from, EagerChoice::kEager, payload.size());
    }
    return;
  }
  if ((context->revoked || refusing_ || channel == MatchChannel::kAgreements) &&
      is_refused(*context, channel, header)) [[unlikely]] {
    reject_message(from, send_id, header);
    return;
  }
  UnexpectedMessage& message = unexpected_.acquire(payload.size());
  message.source = header.source;
  message.tag = header.tag;
  message.peer = &from;
  message.header = header;
  message.send_id = send_id;
  if (!payload.empty()) std::memcpy(message.data(), payload.data(), payload.size());
  try {
    matcher.enqueue(message);
  } catch (...) {  // no memory: the packet stays where it is
    unexpected_.release(message);
    throw;
  }
  ++counters_.unexpected_received;
  if (payload.size() > limits_.eager_bytes || (header.flags & wire::kOnAdvice) != 0) {
    from.choice.on_early(header.length());
    from.channel->advise(from.choice.advice());
  }
}

// A message whose sender had the choice to announce it is whole.
void Protocol::consider(Peer& from, EagerChoice::Way way, std::uint64_t bytes) noexcept {
  const std::uint32_t before = from.choice.advice();
  from.choice.on_whole(way, bytes, now_ns());
  if (from.choice.advice() != before) from.channel->advise(from.choice.advice());
}

// As if it had never been begun, where there is no memory for that.
void Protocol::meet(Operation& receive, Context& context, std::int32_t source) {
  try {
    receive.peer = &peer_of(context, source);
  } catch (...) {
    operations_.release(receive);
    throw;
  }
}

// Whether that rank, which was never talked to in this communicator, is this peer.
bool Protocol::recognize(Context& context, std::int32_t rank, Peer& from) noexcept {
  Context::Member& member = context.members[static_cast<std::size_t>(rank)];
  if (!member.is(from)) return false;
  member.peer = &from;
  return true;
}

// The communicator was freed or revoked, or never existed: the sender must not wait for ever.
void Protocol::reject_message(Peer& from, std::uint64_t send_id, const wire::Header& header) {
  ++counters_.packets_rejected;
  if (header.kind != wire::Kind::kRts) {
    from.channel->return_credit(static_cast<std::uint32_t>(header.length() + kMessageOverhead));
  }
  if (header.kind == wire::Kind::kEager) return;
  std::uint32_t reason = 1;
  if (refusing_) {
    reason = wire::kNobodyReceives;
  } else if (const Context* context = contexts_.find(header.context)) {
    if (context->revoked) reason = wire::kRevokedThere;
  }
  send_control(from, wire::Fin{send_id, reason, 0});
}

Operation* Protocol::receive(Context& context, MatchChannel channel, std::int32_t source,
                             std::int32_t tag, const Buffer* buffer, UnexpectedMessage* message,
                             std::unique_ptr<Sink> sink) {
  Operation& operation = operations_.acquire(Operation::Kind::kReceive);
  operation.context = &context;
  operation.context_number = context.number;
  operation.source = source;
  operation.tag = tag;
  operation.buffer = buffer != nullptr ? *buffer : Buffer{};
  if (sink != nullptr) [[unlikely]] {
    operation.sink = std::move(sink);
    operation.unusual = true;
  }
  operation.allocate_on_match = buffer == nullptr;
  if (message != nullptr) {
    start_matched_receive(operation, *message);
    return &operation;
  }
  if (source != kAnySource) {
    operation.peer = context.members[static_cast<std::size_t>(source)].peer;
    if (operation.peer->is_stranger) [[unlikely]]
      meet(operation, context, source);
  }
  start_receive(operation, channel);
  return &operation;
}

void Protocol::start_receive(Operation& receive, MatchChannel channel) {
  receive.stage = Stage::kPosted;
  receive.channel = channel;
  add(active_, 1);
  if (receive.context->troubled) [[unlikely]]
    return start_troubled_receive(receive);
  Unexpected* match = post(receive, channel);
  if (match != nullptr) accept_message(receive, static_cast<UnexpectedMessage&>(*match));
}

// As if it had never been posted, where there is no memory for that.
Unexpected* Protocol::post(Operation& receive, MatchChannel channel) {
  try {
    outbox_memory_.reserve();
    return receive.context->matcher(channel).post(receive);
  } catch (...) {
    add(active_, -1);
    operations_.release(receive);
    throw;
  }
}

void Protocol::start_matched_receive(Operation& receive, UnexpectedMessage& message) {
  try {
    outbox_memory_.reserve();
  } catch (...) {  // the message stays the caller's
    operations_.release(receive);
    throw;
  }
  receive.channel = MatchChannel::kMessages;
  add(active_, 1);
  accept_message(receive, message);
}

void Protocol::accept_message(Operation& receive, UnexpectedMessage& message) {
  prepare_receive(receive, *message.peer, message.header);
  if (message.kept != nullptr) [[unlikely]] {
    accept_kept(receive, *message.kept);
  } else if (message.is_eager()) {
    accept_eager(receive, *message.peer, message.header, Bytes(message.data(), message.bytes),
                 message.send_id);
  } else {
    std::vector<std::byte> elsewhere;
    Bytes offers(message.data(), message.bytes);
    if (!moved_.empty() && follow_move(*message.peer, message.send_id, elsewhere)) [[unlikely]]
      offers = elsewhere;
    start_transfer(receive, *message.peer, message.send_id, offers);
  }
  unexpected_.release(message);
}

// Fills in what is known at the match: who sent it, and how much of it there is room for.
void Protocol::prepare_receive(Operation& receive, Peer& from, const wire::Header& header) {
  const std::uint64_t length = header.length();
  receive.peer = &from;
  receive.header = header;
  if (receive.allocate_on_match) {
    receive.owned_buffer.reset(new (std::nothrow) std::byte[length]);
    receive.buffer.address = receive.owned_buffer.get();
    receive.buffer.bytes = receive.owned_buffer != nullptr ? length : 0;
    if (receive.owned_buffer == nullptr) receive.completion.error = Error::kNoMemory;
  }
  receive.transfer_bytes = std::min(length, receive.buffer.bytes);
  receive.completion.source = header.source;
  receive.completion.tag = header.tag;
  receive.completion.bytes = receive.transfer_bytes;
  receive.completion.message_bytes = length;
  if (receive.transfer_bytes < length && receive.completion.error == Error::kNone) {
    receive.completion.error = Error::kTruncate;
  }
}

void Protocol::accept_eager(Operation& receive, Peer& from, const wire::Header& header, Bytes bytes,
                            std::uint64_t send_id) {
  from.channel->return_credit(static_cast<std::uint32_t>(bytes.size() + kMessageOverhead));
  if (header.kind == wire::Kind::kEagerSync) send_control(from, wire::Ack{send_id});
  if (receive.sink != nullptr) [[unlikely]] {
    land_whole(receive, bytes.first(receive.transfer_bytes));
    return;
  }
  if (receive.transfer_bytes != 0) {
    std::memcpy(receive.buffer.address, bytes.data(), receive.transfer_bytes);
  }
  complete(receive, Error::kNone);
}

// As MPI_Comm_free: what is under way completes normally.
void Protocol::close_context(Context& closed) noexcept {
  closed.closing = true;
  try {
    outbox_memory_.reserve(closed.unexpected_count() + OutboxMemory::kReserve);
    for (auto& matcher : closed.matchers) {
      if (matcher != nullptr) drop_unexpected(*matcher);
    }
    destroy_closed_contexts();
  } catch (const std::bad_alloc&) {  // when the next communicator is closed
  }
}

void Protocol::let_go(Context& context) {
  if (--context.holders == 0 && context.closing) close_context(context);
}

// A context goes with the last operation that refers to it, at the next communicator that is
// closed: operations need not count what they refer to.
void Protocol::destroy_closed_contexts() {
  std::vector<const Context*> in_use;
  operations_.for_each_live([&](const Operation& operation) {
    if (operation.context != nullptr && operation.context->closing) {
      in_use.push_back(operation.context);
    }
  });
  std::vector<Context*> finished;
  contexts_.for_each([&](Context& context) {
    const bool used = std::ranges::find(in_use, &context) != in_use.end();
    if (context.closing && context.holders == 0 && !used) finished.push_back(&context);
  });
  for (Context* context : finished) {
    outbox_memory_.reserve(context->unexpected_count() + OutboxMemory::kReserve);
    for (auto& matcher : context->matchers) {
      if (matcher != nullptr) drop_unexpected(*matcher);
    }
    if (context->revoked) add(revoked_, -1);
    contexts_.destroy(*context);
  }
}

void Protocol::drop_unexpected(Matcher& matcher) {
  matcher.for_each_unexpected([&](Unexpected& unexpected) {
    auto& message = static_cast<UnexpectedMessage&>(unexpected);
    matcher.remove(message);
    if (!moved_.empty()) forget_move(*message.peer, message.send_id);
    if (message.kept != nullptr) {
      release(*message.kept);
    } else if (message.peer->failure == Error::kNone) {
      reject_message(*message.peer, message.send_id, message.header);
    }
    unexpected_.release(message);
  });
}

}  // namespace mooncake_mpi
