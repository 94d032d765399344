// What becomes of operations when a peer process ends or a communicator is revoked. Engine lock
// held for every call.
#include <algorithm>

#include "base/clock.h"
#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

namespace {

bool is_posted_from_any(const Operation& operation) noexcept {
  return operation.kind == Operation::Kind::kReceive && operation.stage == Stage::kPosted &&
         operation.source == kAnySource;
}

}  // namespace

Error Protocol::trouble(const Context& context, MatchChannel channel,
                        std::int32_t source) noexcept {
  if (context.revoked && channel != MatchChannel::kAgreements) return Error::kRevoked;
  if (source != kAnySource) {
    const Peer& peer = *context.members[static_cast<std::size_t>(source)].peer;
    return peer.is_unreachable() ? Error::kUnreachable : peer.failure;
  }
  if (context.isolated) return Error::kUnreachable;
  return context.failed.size() > context.acknowledged ? Error::kProcessFailedPending : Error::kNone;
}

// A message that had arrived is received even from a process that has ended since; in a revoked
// communicator nothing is.
void Protocol::start_troubled_receive(Operation& receive) {
  Context& context = *receive.context;
  const Error error = trouble(context, receive.channel, receive.source);
  if (error == Error::kRevoked) {
    abort(receive, error);
    return;
  }
  Unexpected* match = post(receive, receive.channel);
  if (match != nullptr) {
    accept_message(receive, static_cast<UnexpectedMessage&>(*match));
  } else if (error == Error::kProcessFailedPending) {
    interrupt(receive);
  } else if (error != Error::kNone) {
    abort(receive, error);
  }
}

// A message that no receive waits for and no queue takes.
bool Protocol::is_refused(Context& context, MatchChannel channel, const wire::Header& header) {
  if (channel != MatchChannel::kAgreements) return context.revoked || refusing_;
  if (header.tag != kRevocationTag) return refusing_;
  hear_of_revocation(context);
  return true;
}

void Protocol::hear_of_revocation(Context& context) {
  if (context.revoked) return;
  revoke(context);
  if (on_revocation_) on_revocation_(context);
}

// The refusal of a message may come before the notice.
void Protocol::hear_of_revocation(const Operation& send) {
  Context* context = contexts_.find(send.context_number);
  if (context != nullptr) hear_of_revocation(*context);
}

// Ends an operation that is not done, from whatever stage it is in.
void Protocol::abort(Operation& operation, Error error) {
  if (operation.kind == Operation::Kind::kReceive) {
    if (operation.posted()) operation.context->matcher(operation.channel).cancel(operation);
    if (operation.stage == Stage::kPosted) {
      operation.completion.source = operation.source;
      operation.completion.tag = operation.tag;
    }
  } else if (operation.stage == Stage::kQueued) {
    drop_from_outbox(operation);
  }
  operation.completion.bytes = 0;
  if (!operation.given_back)
    operation.completion.error = error;  // whatever else was wrong with it: the bytes never came
  complete(operation, error);
}

// The receive stays posted; a thread that waits for it wakes and looks.
void Protocol::interrupt(Operation& receive) {
  receive.done.store(Operation::kInterrupted, std::memory_order_release);
  if (doorbell_ != nullptr && doorbell_->sleepers.load(std::memory_order_relaxed) != 0) {
    doorbell_->wake();
  }
}

void Protocol::fail_peer(Peer& peer, Error error) {
  if (peer.failure != Error::kNone) return;
  peer.failure = error;
  for (const auto& mover : peer.movers)
    mover->abandon();
  if (peer.channel != nullptr) peer.channel->abandon();
  peer.outbox.clear(outbox_memory_);
  std::erase_if(moved_, [&](const Moved& moved) { return moved.peer == &peer; });
  contexts_.for_each([&](Context& context) {
    for (std::size_t rank = 0; rank < context.members.size(); ++rank) {
      if (!context.members[rank].is(peer)) continue;
      context.members[rank].peer = &peer;
      context.failed.push_back(static_cast<std::int32_t>(rank));
      context.troubled = true;
    }
  });
  operations_.for_each_live([&](Operation& operation) {
    if (operation.stage == Stage::kDone) return;
    if (operation.peer == &peer) {
      abort(operation, error);
    } else if (is_posted_from_any(operation) &&
               trouble(*operation.context, operation.channel, kAnySource) != Error::kNone) {
      interrupt(operation);
    }
  });
}

void Protocol::give_up_on(const Peer& peer) {
  contexts_.for_each([&](Context& context) {
    for (Context::Member& member : context.members)
      context.troubled |= member.is(peer);
  });
  operations_.for_each_live([&](Operation& operation) {
    if (operation.peer == &peer && operation.posted()) abort(operation, Error::kUnreachable);
  });
}

void Protocol::isolate(Context& context) {
  context.isolated = context.troubled = true;
  operations_.for_each_live([&](Operation& operation) {
    if (operation.context == &context && is_posted_from_any(operation)) {
      abort(operation, Error::kUnreachable);
    }
  });
}

void Protocol::leave_behind() {
  peers_with_outbox_.for_each([&](Peer& peer) { peer.outbox.clear(outbox_memory_); });
  operations_.for_each_live([&](Operation& operation) {
    if (operation.stage == Stage::kDone) return;
    if (operation.posted()) operation.context->matcher(operation.channel).cancel(operation);
    operation.exposures = kNotExposed;
    operation.shared = false;
    operation.watches = nullptr;
    // What a device has under way is the parent's, and so are the locks that its threads held.
    if (operation.buffer.device != nullptr) {
      static_cast<void>(operation.sink.release());
      static_cast<void>(operation.supply.release());
    }
    if (!operation.given_back) {
      operation.completion.bytes = 0;
      operation.completion.error = Error::kCommunicator;
    }
    complete(operation, Error::kCommunicator);
  });
}

void Protocol::adopt_failures(Context& context) {
  for (std::size_t rank = 0; rank < context.members.size(); ++rank) {
    const Peer& peer = *context.members[rank].peer;
    context.troubled |= peer.is_unreachable();
    if (peer.failure == Error::kNone) continue;
    context.failed.push_back(static_cast<std::int32_t>(rank));
    context.troubled = true;
  }
}

std::size_t Protocol::acknowledge(Context& context, std::size_t count) {
  context.acknowledged = std::max(context.acknowledged, std::min(count, context.failed.size()));
  if (trouble(context, MatchChannel::kAgreements, kAnySource) == Error::kNone) {
    operations_.for_each_live([&](Operation& operation) {
      if (operation.context == &context && is_posted_from_any(operation)) operation.done.store(0);
    });
  }
  return context.acknowledged;
}

// A transfer under way is left alone: both processes live, and one of them may be writing into the
// other's buffer. So is a send that was announced: the receiver, which may be reading it, refuses
// it once it knows of the revocation.
void Protocol::revoke(Context& context) {
  if (context.revoked) return;
  outbox_memory_.reserve(context.unexpected_count() + OutboxMemory::kReserve);
  context.revoked = context.troubled = true;
  add(revoked_, 1);
  operations_.for_each_live([&](Operation& operation) {
    const bool posted = operation.kind == Operation::Kind::kReceive &&
                        operation.stage == Stage::kPosted && operation.context == &context &&
                        operation.channel != MatchChannel::kAgreements;
    MatchChannel channel = MatchChannel::kMessages;
    const bool queued = operation.kind == Operation::Kind::kSend &&
                        operation.stage == Stage::kQueued &&
                        operation.context_number == context.number &&
                        ContextTable::channel_of(operation.header.context, channel) &&
                        channel != MatchChannel::kAgreements;
    if (posted || queued) abort(operation, Error::kRevoked);
  });
  for (std::size_t channel = 0; channel < kMatchChannels; ++channel) {
    auto& matcher = context.matchers[channel];
    if (matcher != nullptr && static_cast<MatchChannel>(channel) != MatchChannel::kAgreements) {
      drop_unexpected(*matcher);
    }
  }
}

void Protocol::refuse_messages() {
  std::size_t messages = 0;
  contexts_.for_each([&](Context& context) { messages += context.unexpected_count(); });
  outbox_memory_.reserve(messages + OutboxMemory::kReserve);
  refusing_ = true;
  contexts_.for_each([this](Context& context) {
    for (auto& matcher : context.matchers) {
      if (matcher != nullptr) drop_unexpected(*matcher);
    }
  });
}

void Protocol::fail_undeliverable() {
  constexpr std::uint64_t kGraceNs = 2'000'000'000;
  if (undeliverable_.load(std::memory_order_relaxed) == 0) return;
  const std::uint64_t now = now_ns();
  operations_.for_each_live([&](Operation& operation) {
    const bool pending = operation.stage != Stage::kDone && operation.undeliverable_since_ns != 0;
    if (pending && now - operation.undeliverable_since_ns > kGraceNs) {
      complete(operation, Error::kProcessFailed);
    }
  });
}

// The receiver did not take the message: its copy failed, or the communicator is no more.
Error Protocol::refusal(const Operation& send) const noexcept {
  const Context* context = contexts_.find(send.context_number);
  return context != nullptr && context->revoked ? Error::kRevoked : Error::kOther;
}

}  // namespace mooncake_mpi
