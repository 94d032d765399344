// Blocking calls that are left before they are done: nothing touches the caller's memory any more,
// a message that was to be received is whole again in the queue, and one that was to be sent is
// what it was when the call was left.
#include <algorithm>
#include <cstring>
#include <new>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

// What the receiver copies by itself, or an adapter reads, is soon there; what is streamed goes to
// memory of the engine from now on.
bool Protocol::divert(Operation& receive) {
  if (receive.stage == Stage::kDone || receive.stage == Stage::kAwaiting) return true;
  if (receive.stage != Stage::kStreaming) return false;
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
  if (receive.stage == Stage::kDone && receive.owned_buffer == nullptr && whole) {
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
  if (error == Error::kNone && receive.transfer_bytes != 0) {
    std::memcpy(receive.buffer.address, kept.owned_buffer.get(), receive.transfer_bytes);
  }
  release(kept);
  if (error != Error::kNone) {
    abort(receive, error);
  } else {
    complete(receive, Error::kNone);
  }
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
      std::memcpy(copy + offset, run.data(), run.size());
      offset += run.size();
    }
    send.owned_buffer.reset(copy);
    send.buffer.address = copy;
    const bool readable = send.pieces == nullptr && send.stage != Stage::kQueued;
    send.pieces.reset();
    send.moving = readable && send.stage != Stage::kStreaming;
    send.unusual = true;
  }
  if (send.moving) {
    if (!send.peer->outbox.empty()) return false;
    wire::Header header = send.header;
    header.kind = wire::Kind::kRts;
    header.flags = wire::kMoved;
    header.payload_bytes = sizeof(wire::Rts);
    std::byte rts[sizeof(wire::Rts)];
    wire::encode(wire::Rts{send.id(), reinterpret_cast<std::uint64_t>(send.buffer.address), 0},
                 rts);
    if (!send.peer->channel->try_send(header, Bytes(rts, sizeof rts), {})) return false;
    send.moving = false;
  }
  return true;
}

void Protocol::on_moved(Peer& from, const wire::Rts& rts) {
  const RemoteMemory remote{rts.address, rts.region};
  bool under_way = false;
  operations_.for_each_live([&](Operation& receive) {
    const bool reads = receive.stage == Stage::kCopying || receive.stage == Stage::kReading;
    if (receive.kind != Operation::Kind::kReceive || receive.peer != &from || !reads ||
        receive.remote_id != rts.send_id) {
      return;
    }
    receive.remote = remote;
    receive.moved = true;
    receive.unusual = true;
    under_way = true;
  });
  std::erase_if(moved_, [&](const Moved& moved) {
    return moved.peer == &from && moved.send_id == rts.send_id;
  });
  constexpr std::size_t kMost = 4096;  // of messages that were never received
  if (!under_way && moved_.size() < kMost) moved_.push_back({&from, rts.send_id, remote});
}

// Where the bytes of an announced message are now.
void Protocol::follow_move(UnexpectedMessage& message) {
  std::erase_if(moved_, [&](const Moved& moved) {
    if (moved.peer != message.peer || moved.send_id != message.send_id) return false;
    message.remote = moved.remote;
    message.bytes = 0;  // the lane's key was to the old place
    return true;
  });
}

}  // namespace mooncake_mpi
