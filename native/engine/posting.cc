// Starts sends and receives: one, or several under one hold of the engine's lock. Called by the
// program's threads, without that lock.
#include "engine/posting.h"

#include <new>
#include <utility>

#include "engine/engine.h"
#include "engine/failure.h"
#include "memory/memory_device.h"

namespace mooncake_mpi {

Result<Operation*> Engine::send(Context& context, MatchChannel channel, std::int32_t dest,
                                std::int32_t tag, const Buffer& buffer, SendMode mode,
                                std::unique_ptr<Source> source) {
  std::lock_guard lock(mutex_);
  return start_send(context, channel, dest, tag, buffer, mode, std::move(source));
}

Operation* Engine::receive(Context& context, MatchChannel channel, std::int32_t source,
                           std::int32_t tag, const Buffer& buffer) {
  std::lock_guard lock(mutex_);
  return protocol_.receive(context, channel, source, tag, &buffer);
}

Operation* Engine::receive_any_size(Context& context, MatchChannel channel, std::int32_t source,
                                    std::int32_t tag) {
  std::lock_guard lock(mutex_);
  return protocol_.receive(context, channel, source, tag, nullptr);
}

Operation* Engine::receive_matched(Context& context, UnexpectedMessage& message,
                                   const Buffer* buffer) {
  std::lock_guard lock(mutex_);
  return protocol_.receive(context, MatchChannel::kMessages, message.source, message.tag, buffer,
                           &message);
}

Result<Operation*> Engine::receive_device(Context& context, MatchChannel channel,
                                          std::int32_t source, std::int32_t tag,
                                          const Buffer& buffer, UnexpectedMessage* message) {
  std::lock_guard lock(mutex_);
  return start_receive_device(context, channel, source, tag, buffer, message);
}

void Engine::post(std::span<Posting> postings) {
  std::lock_guard lock(mutex_);
  for (Posting& posting : postings)
    start(posting);
}

void Engine::post_and_leave(std::span<Posting> postings) {
  bool large = false;
  {
    std::lock_guard lock(mutex_);
    for (Posting& posting : postings) {
      start(posting);
      if (posting.operation == nullptr || !is_large(*posting.operation)) continue;
      protocol_.mark_background(*posting.operation);
      large = true;
    }
  }
  look_after(large);
}

void Engine::mark(Operation& operation) {
  std::lock_guard lock(mutex_);
  protocol_.mark_background(operation);
}

Result<Operation*> Engine::start_send(Context& context, MatchChannel channel, std::int32_t dest,
                                      std::int32_t tag, const Buffer& buffer, SendMode mode,
                                      std::unique_ptr<Source> source) {
  const Context::Member& member = context.members[static_cast<std::size_t>(dest)];
  Peer& peer = *member.peer;
  if (context.revoked && channel != MatchChannel::kAgreements) [[unlikely]] {
    return Failure{Error::kRevoked, "the communicator was revoked"};
  }
  if (peer.channel == nullptr) {
    Result<bool> connected = connect(peer);
    if (peer.lane == kGoneLane) fail(peer, Error::kProcessFailed);
    if (!connected) {
      Failure failure = connected.failure();
      failure.message = "rank " + std::to_string(dest) + ": " + failure.message;
      return failure;
    }
  }
  return protocol_.send(context, dest, channel, tag, buffer, mode, std::move(source));
}

Result<Operation*> Engine::start_receive_device(Context& context, MatchChannel channel,
                                                std::int32_t source, std::int32_t tag,
                                                const Buffer& buffer, UnexpectedMessage* message) {
  auto sink = buffer.device->sink(buffer);
  if (!sink) return sink.failure();
  return protocol_.receive(context, channel, source, tag, &buffer, message,
                           std::move(sink).value());
}

// Whatever becomes of it, the next one is started too.
void Engine::start(Posting& posting) {
  const bool send = posting.kind == Posting::Kind::kSend;
  try {
    if (!send && posting.buffer.device == nullptr) {
      const bool any_size = posting.kind == Posting::Kind::kReceiveAnySize;
      posting.operation = protocol_.receive(*posting.context, posting.channel, posting.rank,
                                            posting.tag, any_size ? nullptr : &posting.buffer);
      return;
    }
    if (send && may_send_now(*posting.context, posting.buffer) &&
        posting.mode != SendMode::kSynchronous && posting.buffer.device == nullptr &&
        send_now(*posting.context, posting.channel, posting.rank, posting.tag, posting.buffer)) {
      return;
    }
    Result<Operation*> started =
        send ? start_send(*posting.context, posting.channel, posting.rank, posting.tag,
                          posting.buffer, posting.mode)
             : start_receive_device(*posting.context, posting.channel, posting.rank, posting.tag,
                                    posting.buffer, nullptr);
    if (!started) {
      posting.error = started.failure().error;
      posting.reason = started.failure().message;
    } else if (send && posting.mode == SendMode::kBuffered) {  // the engine has its copy
      protocol_.release(*started.value());
    } else {
      posting.operation = started.value();
    }
  } catch (const std::bad_alloc&) {
    posting.error = Error::kNoMemory;
    posting.reason = "no memory";  // short: needs none
  }
}

}  // namespace mooncake_mpi
