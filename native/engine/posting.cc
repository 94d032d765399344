// Starts sends and receives: one, or several under one hold of the engine's lock. Called by the
// program's threads, without that lock.
#include "engine/posting.h"

#include <cstring>
#include <new>
#include <utility>

#include "engine/engine.h"
#include "engine/failure.h"
#include "engine/host_copy.h"
#include "memory/memory_device.h"

namespace mooncake_mpi {
namespace {

// Once a buffer of a device has been posted: a thread that waits sleeps until it is woken, and
// nobody wakes it for what a device does.
class AttentionToDevice {
 public:
  AttentionToDevice(const Buffer& buffer, Doorbell& doorbell) noexcept
      : doorbell_(buffer.device != nullptr ? &doorbell : nullptr) {}
  ~AttentionToDevice() {
    if (doorbell_ != nullptr) [[unlikely]]
      doorbell_->ring();
  }
  AttentionToDevice(const AttentionToDevice&) = delete;
  AttentionToDevice& operator=(const AttentionToDevice&) = delete;

 private:
  Doorbell* doorbell_;
};

}  // namespace

Result<Operation*> Engine::send(Context& context, MatchChannel channel, std::int32_t dest,
                                std::int32_t tag, const Buffer& buffer, SendMode mode,
                                std::unique_ptr<Source> source) {
  const bool on_device = buffer.device != nullptr && source == nullptr;
  if (on_device) [[unlikely]] {
    if (mode == SendMode::kBuffered) {
      auto copy = copy_of(buffer);
      if (!copy) return copy.failure();
      const Buffer host{copy.value().get(), buffer.bytes};
      std::lock_guard lock(mutex_);
      return start_send(context, channel, dest, tag, host, mode, nullptr);
    }
    auto made = buffer.device->source(buffer);
    if (!made) return made.failure();
    source = std::move(made).value();
  }
  const AttentionToDevice attention(buffer, *doorbell_);
  auto started = [&] {
    std::lock_guard lock(mutex_);
    return start_send(context, channel, dest, tag, buffer, mode, std::move(source));
  }();
  if (on_device) go_on_with_devices();
  return started;
}

// Where a program posts many messages of devices the first ones go on meanwhile, and by its own
// thread: another one would contend for the lock and for the driver's.
void Engine::go_on_with_devices() {
  constexpr bool kMoreToCome = true;
  progress(kMoreToCome);
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
  auto sink = buffer.device->sink(buffer);
  if (!sink) return sink.failure();
  Operation* operation =
      receive_into(context, channel, source, tag, buffer, std::move(sink).value(), message);
  go_on_with_devices();
  return operation;
}

Operation* Engine::receive_into(Context& context, MatchChannel channel, std::int32_t source,
                                std::int32_t tag, const Buffer& buffer, std::unique_ptr<Sink> sink,
                                UnexpectedMessage* message) {
  const AttentionToDevice attention(buffer, *doorbell_);
  std::lock_guard lock(mutex_);
  return protocol_.receive(context, channel, source, tag, &buffer, message, std::move(sink));
}

bool Engine::redirect(Operation& receive, MemoryDevice& device, std::unique_ptr<Sink> sink) {
  std::lock_guard lock(mutex_);
  return protocol_.redirect(receive, device, std::move(sink));
}

// For callers that have no use for their time meanwhile.
Result<std::unique_ptr<std::byte[]>> Engine::copy_of(const Buffer& buffer) {
  constexpr std::uint64_t kPartNs = 1'000'000'000;
  auto copy = HostCopy::begin(buffer);
  if (!copy) return copy.failure();
  while (wait([&] { return copy.value().advance(); }, kPartNs) != WaitResult::kDone) {
  }
  return copy.value().take();
}

// The driver of a device may block a call for long, so the lock is not held yet.
void Engine::prepare(Posting& posting) {
  const auto refuse = [&posting](const Failure& failure) {
    posting.error = failure.error;
    posting.reason = failure.message;
  };
  if (posting.kind != Posting::Kind::kSend) {
    auto sink = posting.buffer.device->sink(posting.buffer);
    if (!sink) return refuse(sink.failure());
    posting.sink = std::move(sink).value();
    return;
  }
  if (posting.mode != SendMode::kBuffered) {
    auto source = posting.buffer.device->source(posting.buffer);
    if (!source) return refuse(source.failure());
    posting.source = std::move(source).value();
    return;
  }
  auto copy = copy_of(posting.buffer);
  if (!copy) return refuse(copy.failure());
  posting.copy = std::move(copy).value();
  posting.buffer = {posting.copy.get(), posting.buffer.bytes};
}

void Engine::prepare(std::span<Posting> postings) {
  for (Posting& posting : postings) {
    if (posting.buffer.device != nullptr) [[unlikely]]
      prepare(posting);
  }
}

void Engine::post(std::span<Posting> postings) {
  prepare(postings);
  {
    std::lock_guard lock(mutex_);
    for (Posting& posting : postings)
      start(posting);
  }
  attend_to(postings);
}

void Engine::attend_to(std::span<const Posting> postings) {
  bool some_on_device = false;
  for (const Posting& posting : postings) {
    const AttentionToDevice attention(posting.buffer, *doorbell_);
    some_on_device |= posting.buffer.device != nullptr;
  }
  if (some_on_device) go_on_with_devices();
}

void Engine::post_and_leave(std::span<Posting> postings) {
  prepare(postings);
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
  attend_to(postings);
  look_after(large);
}

void Engine::entrust(Operation& operation) {
  mark(operation);
  doorbell_->ring();  // its thread may have gone to sleep before the operation was ready
  look_after(true);
}

void Engine::mark(Operation& operation) {
  std::lock_guard lock(mutex_);
  protocol_.mark_background(operation);
}

Result<Operation*> Engine::start_send(Context& context, MatchChannel channel, std::int32_t dest,
                                      std::int32_t tag, const Buffer& buffer, SendMode mode,
                                      std::unique_ptr<Source> source) {
  if (context.revoked && channel != MatchChannel::kAgreements) [[unlikely]] {
    return Failure{Error::kRevoked, "the communicator was revoked"};
  }
  Peer& peer = protocol_.peer_of(context, dest);
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

// Whatever becomes of it, the next one is started too.
void Engine::start(Posting& posting) {
  const bool send = posting.kind == Posting::Kind::kSend;
  if (posting.error != Error::kNone) return;
  try {
    if (!send) {
      const bool any_size = posting.kind == Posting::Kind::kReceiveAnySize;
      posting.operation =
          protocol_.receive(*posting.context, posting.channel, posting.rank, posting.tag,
                            any_size ? nullptr : &posting.buffer, nullptr, std::move(posting.sink));
      return;
    }
    if (send && may_send_now(*posting.context, posting.buffer) &&
        posting.mode != SendMode::kSynchronous && posting.buffer.device == nullptr &&
        send_now(*posting.context, posting.channel, posting.rank, posting.tag, posting.buffer)) {
      return;
    }
    Result<Operation*> started =
        start_send(*posting.context, posting.channel, posting.rank, posting.tag, posting.buffer,
                   posting.mode, std::move(posting.source));
    if (!started) {
      posting.error = started.failure().error;
      posting.reason = started.failure().message;
    } else if (posting.mode == SendMode::kBuffered) {  // the engine has its copy
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
