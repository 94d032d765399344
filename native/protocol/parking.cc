// Small messages of devices whose receives do not come: two processes that each send before they
// receive are not to wait for each other, as they do not with host memory. The sender brings such
// a message to the host and gives the buffer back; the message itself waits on, and the operation
// with it, until the receiver is done. Engine lock held for every call.
#include <utility>

#include "base/clock.h"
#include "protocol/protocol.h"

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kPatienceNs = 20'000;
// While the receiver takes other messages, one of many at once is likely to have its turn.
constexpr std::uint64_t kLongPatienceNs = 50'000'000;
constexpr unsigned kAtOnce = 32;
constexpr std::uint64_t kLargest = 64 * 1024;
// Of all messages that are parked at once; more wait for their receives.
constexpr std::uint64_t kMost = std::uint64_t{16} << 20;

}  // namespace

using Stage = Operation::Stage;

// It has just been announced.
void Protocol::consider_parking(Operation& send) noexcept {
  if (!parks_ || send.buffer.device == nullptr || send.buffer.bytes > kLargest ||
      send.header.kind == wire::Kind::kEagerSync) {
    return;
  }
  send.announced_ns = now_ns();
  parkable_.push_back(send);
}

void Protocol::forget_parking(Operation& send) noexcept {
  if (static_cast<ListLink<WorkTag>&>(send).linked()) {
    IntrusiveList<Operation, WorkTag>::remove(send);
  }
}

// They are in the order in which they were announced.
unsigned Protocol::advance_parking() {
  unsigned looked_at = 0;
  unsigned progress = 0;
  const std::uint64_t now = now_ns();
  parkable_.for_each_while([&](Operation& send) {
    const std::uint64_t age = now - send.announced_ns;
    if (age < kPatienceNs || ++looked_at > kAtOnce) return false;
    const bool taking = now - send.peer->took_ns < kPatienceNs && age < kLongPatienceNs;
    if (taking && !send.shared) return true;
    outbox_memory_.reserve();
    progress += park(send);
    return true;
  });
  return progress;
}

unsigned Protocol::park(Operation& send) {
  const std::uint64_t bytes = send.buffer.bytes;
  // Once the receiver has asked for it, it is under way; and of a call that was left the engine has
  // a copy already.
  if (send.shared || send.supply == nullptr) {
    forget_parking(send);
    return 0;
  }
  if (parked_bytes_ + bytes > kMost) return 0;
  if (bytes == 0 && !send.supply->ready()) return 0;
  if (send.supply->at(0, bytes).size() != bytes || !leave_send(send)) return 0;
  forget_parking(send);
  send.given_back = true;
  parked_bytes_ += bytes;
  ++counters_.parked;
  if (!send.owned) return 1;
  CompletionWatch* watch = std::exchange(send.watches, nullptr);
  send.done.store(Operation::kFinished, std::memory_order_release);
  if (doorbell_ != nullptr && doorbell_->sleepers.load(std::memory_order_relaxed) != 0) {
    doorbell_->wake();
  }
  tell_of_unusual(send, watch);
  return 1;
}

}  // namespace mooncake_mpi
