// Blocking calls that are left before they are done: nothing touches the caller's memory any more,
// a message that was to be received is whole again in the queue, and one that was to be sent is
// what it was when the call was left. Engine lock held for every call.
#include <algorithm>
#include <cstring>
#include <new>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

// What a mover reads into the caller's memory is soon there, or is streamed instead; what is
// streamed goes to memory of the engine from now on.
bool Protocol::divert(Operation& receive) {
  if (receive.stage == Stage::kDone || receive.stage == Stage::kAwaiting) return true;
  if (receive.stage == Stage::kMoving && receive.sink == nullptr) {
    if (receive.owned_buffer != nullptr) return true;
    for (const auto& mover : receive.peer->movers)
      mover->hurry(receive.id());
    return false;
  }
  if (receive.stage != Stage::kStreaming || receive.sink != nullptr) return false;
  if (receive.may_be_written && receive.transferred_bytes == 0) return false;
  if (receive.owned_buffer == nullptr) {
    receive.owned_buffer.reset(new (std::nothrow) std::byte[receive.transfer_bytes]);
    if (receive.owned_buffer == nullptr) return false;
    std::memcpy(receive.owned_buffer.get(), receive.buffer.address, receive.transferred_bytes);
    receive.buffer.address = receive.owned_buffer.get();
  }
  return true;
}

bool Protocol::give_up(Operation& receive) {
  if (!divert(receive)) return false;
  if (receive.stage == Stage::kAwaiting) {
    Operation* kept = operations_.find(receive.remote_id);
    if (kept != nullptr) kept->heir = 0;
    receive.completion.cancelled = true;
    complete(receive, Error::kNone);
    release(receive);
    if (kept != nullptr) put_back(*kept);
    return true;
  }
  const bool whole = receive.completion.error == Error::kNone && !receive.completion.cancelled;
  const bool readable = receive.buffer.device == nullptr;
  if (receive.stage == Stage::kDone && receive.owned_buffer == nullptr && whole && readable) {
    receive.owned_buffer.reset(new (std::nothrow) std::byte[receive.transfer_bytes]);
    if (receive.owned_buffer != nullptr && receive.transfer_bytes != 0) {
      std::memcpy(receive.owned_buffer.get(), receive.buffer.address, receive.transfer_bytes);
    }
  }
  if (whole && receive.owned_buffer != nullptr && !receive.context->closing) {
    put_back(receive);
  } else {
    release(receive);  // truncated: as much of it as there was room for has been received
  }
  return true;
}

void Protocol::give_back(Context& context, std::int32_t source, std::int32_t tag, Bytes bytes) {
  auto memory = std::make_unique<std::byte[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(memory.get(), bytes.data(), bytes.size());
  outbox_memory_.reserve();
  Operation& kept = operations_.acquire(Operation::Kind::kReceive);
  kept.context = &context;
  kept.context_number = context.number;
  kept.channel = MatchChannel::kMessages;
  kept.peer = &peer_of(context, source);
  kept.header =
      wire::message_header(wire::Kind::kRts, context.number, source, tag, 0, bytes.size());
  kept.owned_buffer = std::move(memory);
  kept.transfer_bytes = bytes.size();
  kept.stage = Stage::kDone;
  put_back(kept);
}

// The message goes to the oldest receive that waits for it, or before all others in the queue.
void Protocol::put_back(Operation& kept) {
  UnexpectedMessage& message = unexpected_.acquire(0);
  message.source = kept.header.source;
  message.tag = kept.header.tag;
  message.peer = kept.peer;
  message.header = kept.header;
  message.kept = &kept;
  Matcher& matcher = kept.context->matcher(kept.channel);
  if (Posted* posted = matcher.arrive(message.source, message.tag)) {
    accept_message(static_cast<Operation&>(*posted), message);
  } else {
    matcher.requeue(message);
  }
}

void Protocol::accept_kept(Operation& receive, Operation& kept) {
  if (kept.stage == Stage::kDone) {
    hand_over(kept, receive);
    return;
  }
  receive.stage = Stage::kAwaiting;
  receive.remote_id = kept.id();
  kept.heir = receive.id();
  kept.unusual = true;
}

void Protocol::hand_over(Operation& kept, Operation& receive) {
  const Error error = kept.completion.error;
  if (error != Error::kNone) {
    abort(receive, error);
  } else if (receive.sink != nullptr) {
    land_whole(receive, Bytes(kept.owned_buffer.get(), receive.transfer_bytes));
  } else {
    land(receive, 0, Bytes(kept.owned_buffer.get(), receive.transfer_bytes));
    complete(receive, Error::kNone);
  }
  release(kept);
}

// A message that was put back before it was whole, and has a receive again.
void Protocol::finish_kept(Operation& kept) {
  Operation* receive = operations_.find(std::exchange(kept.heir, 0));
  if (receive != nullptr && receive->stage == Stage::kAwaiting && receive->remote_id == kept.id()) {
    hand_over(kept, *receive);
  } else {
    release(kept);
  }
}

// The receiver may have begun to read the caller's memory, or begin at any moment: it is told where
// the copy is, and begins again. False: not yet, there is no memory or no room in the channel.
bool Protocol::leave_send(Operation& send) {
  if (send.stage == Stage::kDone) return true;
  if (send.owned_buffer == nullptr && send.buffer.bytes != 0) {
    auto* copy = new (std::nothrow) std::byte[send.buffer.bytes];
    if (copy == nullptr) return false;
    for (std::uint64_t offset = 0; offset < send.buffer.bytes;) {
      const Bytes run = bytes_at(send, offset, send.buffer.bytes - offset);
      if (run.empty()) {  // of a device that has yet to bring them
        delete[] copy;
        return false;
      }
      std::memcpy(copy + offset, run.data(), run.size());
      offset += run.size();
    }
    if (send.shared) {
      for (const auto& mover : send.peer->movers)
        mover->stop(send.id());
    }
    if (send.stage == Stage::kMoving) stream_from_start(send);
    send.owned_buffer.reset(copy);
    send.buffer = {copy, send.buffer.bytes};
    const bool readable = send.supply == nullptr && send.stage != Stage::kQueued;
    send.supply.reset();
    send.moving = readable && send.stage == Stage::kAnnounced;
    send.unusual = true;
  }
  if (send.moving) {
    if (!send.peer->outbox.empty()) return false;
    wire::Offers offers;
    for (const auto& mover : send.peer->movers) {
      Exposure exposure;
      if (mover->expose(send.buffer, Access::kRead, exposure) != Answer::kYes) continue;
      if (exposure.handle == Exposure::kNone) {
        offers.add(mover->lane(), Bytes(exposure.key).first(exposure.key_bytes));
      } else {  // one of a kind: the old place stays open until the receiver is done with it
        mover->conceal(exposure.handle);
      }
    }
    wire::Header header = send.header;
    header.kind = wire::Kind::kRts;
    header.flags = wire::kMoved;
    header.payload_bytes = static_cast<std::uint32_t>(sizeof(wire::Rts) + offers.bytes().size());
    std::byte rts[sizeof(wire::Rts)];
    wire::encode(wire::Rts{send.id()}, rts);
    if (!send.peer->channel->try_send(header, Bytes(rts, sizeof rts), offers.bytes())) return false;
    send.moving = false;
  }
  return true;
}

// Of a message that is under way, or waits for its receive; of any other it is too late.
void Protocol::on_moved_elsewhere(Peer& from, const wire::Rts& rts, Bytes offers) {
  bool known = is_unexpected(from, rts.send_id);
  operations_.for_each_live([&](Operation& receive) {
    if (receive.kind != Operation::Kind::kReceive || receive.peer != &from ||
        receive.stage != Stage::kMoving || receive.remote_id != rts.send_id) {
      return;
    }
    receive.moved = true;
    receive.unusual = true;
    known = true;
  });
  forget_move(from, rts.send_id);
  if (known) moved_.push_back({&from, rts.send_id, {offers.begin(), offers.end()}});
}

bool Protocol::is_unexpected(const Peer& from, std::uint64_t send_id) const {
  bool found = false;
  contexts_.for_each([&](Context& context) {
    for (auto& matcher : context.matchers) {
      if (matcher == nullptr) continue;
      matcher->for_each_unexpected([&](Unexpected& unexpected) {
        const auto& message = static_cast<const UnexpectedMessage&>(unexpected);
        found |= message.peer == &from && message.send_id == send_id;
      });
    }
  });
  return found;
}

void Protocol::forget_move(const Peer& peer, std::uint64_t send_id) {
  std::erase_if(
      moved_, [&](const Moved& moved) { return moved.peer == &peer && moved.send_id == send_id; });
}

// What was offered of the bytes where they are now; false: they have not moved.
bool Protocol::follow_move(Peer& peer, std::uint64_t send_id, std::vector<std::byte>& offers) {
  const auto found = std::ranges::find_if(
      moved_, [&](const Moved& moved) { return moved.peer == &peer && moved.send_id == send_id; });
  if (found == moved_.end()) return false;
  offers = std::move(found->offers);
  moved_.erase(found);
  return true;
}

}  // namespace mooncake_mpi
