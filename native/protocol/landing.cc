// The one door through which packets' bytes come into a receive's buffer: host memory, or a sink
// that takes them to where the processor cannot store. Engine lock held for every call.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "protocol/protocol.h"

namespace mooncake_mpi {

using Stage = Operation::Stage;

// Puts the message's bytes from `offset` on to where they belong; how many there was room for.
std::uint64_t Protocol::land(Operation& receive, std::uint64_t offset, Bytes bytes) noexcept {
  if (bytes.empty()) return 0;
  if (receive.sink == nullptr) {
    std::memcpy(receive.buffer.address + offset, bytes.data(), bytes.size());
    return bytes.size();
  }
  std::uint64_t landed = 0;
  while (landed < bytes.size()) {
    const auto room = receive.sink->room(offset + landed, bytes.size() - landed);
    if (room.empty()) break;
    std::memcpy(room.data(), bytes.data() + landed, room.size());
    receive.sink->put(offset + landed, room.size());
    landed += room.size();
  }
  return landed;
}

// All bytes of a message that are at hand now and will not be later.
void Protocol::land_whole(Operation& receive, Bytes bytes) {
  receive.path = TransferPath::kStream;
  const std::uint64_t landed = land(receive, 0, bytes);
  if (landed < bytes.size()) {
    receive.unusual = true;
    receive.held.reset(new (std::nothrow) std::byte[bytes.size()]);
    if (receive.held == nullptr) {
      receive.completion.error = Error::kNoMemory;
    } else {
      std::memcpy(receive.held.get(), bytes.data(), bytes.size());
    }
  }
  finish_receive(receive);
  if (receive.held != nullptr) receive.transferred_bytes = landed;
}

// The bytes are there, or in the sink.
void Protocol::finish_receive(Operation& receive) {
  if (receive.sink == nullptr) {
    if ((receive.header.flags & wire::kOnAdvice) != 0) {
      consider(*receive.peer, EagerChoice::kAnnounced, receive.completion.message_bytes);
    }
    count(receive, receive.transfer_bytes);
    complete(receive, Error::kNone);
    return;
  }
  receive.stage = Stage::kLanding;
  receive.transferred_bytes = receive.transfer_bytes;
  if (!static_cast<ListLink<WorkTag>&>(receive).linked()) work_.push_back(receive);
}

unsigned Protocol::advance_landing(Operation& receive) {
  const std::uint64_t before = receive.transferred_bytes;
  if (before < receive.transfer_bytes && receive.held != nullptr) {
    receive.transferred_bytes +=
        land(receive, before, Bytes(receive.held.get() + before, receive.transfer_bytes - before));
    if (receive.transferred_bytes < receive.transfer_bytes) {
      return receive.transferred_bytes != before ? 1 : 0;
    }
  }
  const Landing landing = receive.sink->landed();
  if (landing == Landing::kUnderWay) return 0;
  if (landing == Landing::kDone) count(receive, receive.transfer_bytes);
  complete(receive, landing == Landing::kDone ? Error::kNone : Error::kOther);
  return 1;
}

bool Protocol::redirect(Operation& receive, MemoryDevice& device, std::unique_ptr<Sink> sink) {
  if (receive.kind != Operation::Kind::kReceive || receive.sink == nullptr) return false;
  if (receive.stage != Stage::kPosted && receive.stage != Stage::kMoving) return false;
  if (!sink->replace(*receive.sink)) return false;
  if (receive.stage == Stage::kMoving) {
    const bool moved = std::ranges::any_of(receive.peer->movers, [&](const auto& mover) {
      return mover->redirect(receive.id(), *sink);
    });
    if (!moved) return false;
  }
  receive.sink = std::move(sink);
  receive.buffer.device = &device;
  return true;
}

}  // namespace mooncake_mpi
