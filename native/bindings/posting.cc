// Sends and receives that are posted as one, where memory of devices is among them. With the
// interpreter's lock (GIL) held, which a wait gives back while it sleeps.
#include "bindings/posting.h"

#include <utility>
#include <vector>

#include "bindings/communicator.h"
#include "bindings/interpreter_lock.h"
#include "bindings/waiting.h"
#include "engine/host_copy.h"

namespace mooncake_mpi::bindings {

bool copy_to_host(const Buffer& buffer, BufferedCopy& copied) {
  auto begun = [&] {
    const InterpreterUnlocked unlocked;  // the device's driver is asked
    return HostCopy::begin(buffer);
  }();
  const auto fail = [&](const Failure& failure) {
    copied.error = failure.error;
    copied.reason = failure.message;
    return false;
  };
  if (!begun) return fail(begun.failure());
  HostCopy copy = std::move(begun).value();
  if (!wait_until([&] { return copy.advance(); }, "Bsend", nullptr)) return false;
  auto memory = copy.take();
  if (!memory) return fail(memory.failure());
  copied.copy = std::move(memory).value();
  copied.buffer = {copied.copy.get(), buffer.bytes};
  return true;
}

namespace {

// Before anything of the list is posted.
void copy_buffered(std::span<Posting> postings) {
  for (Posting& posting : postings) {
    if (posting.buffer.device == nullptr || posting.kind != Posting::Kind::kSend ||
        posting.mode != SendMode::kBuffered) {
      continue;
    }
    BufferedCopy copied;
    if (copy_to_host(posting.buffer, copied)) {
      posting.copy = std::move(copied.copy);
      posting.buffer = copied.buffer;
      continue;
    }
    posting.error = copied.error != Error::kNone ? copied.error : Error::kOther;
    posting.reason = std::move(copied.reason);
    posting.buffer = {};
  }
}

}  // namespace

void post_with_devices(std::span<Posting> postings, bool leave) {
  std::vector<ContextHold> holds;
  holds.reserve(postings.size());
  for (const Posting& posting : postings)
    holds.emplace_back(*posting.context);
  copy_buffered(postings);
  const InterpreterUnlocked unlocked;
  Engine& engine = *runtime().engine;
  leave ? engine.post_and_leave(postings) : engine.post(postings);
}

}  // namespace mooncake_mpi::bindings
