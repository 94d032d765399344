#include "protocol/context.h"

#include "protocol/peer.h"

namespace mooncake_mpi {

bool Context::Member::is(const Peer& other) const noexcept {
  return peer == &other || (known == other.known && known != UINT32_MAX);
}

Context* ContextTable::create() {
  if (free_.empty()) {
    if (contexts_.size() > kSlotMask) return nullptr;
    free_.push_back(static_cast<std::uint32_t>(contexts_.size()));
    contexts_.emplace_back();
    generations_.push_back(0);
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  auto context = std::make_unique<Context>();
  context->number = slot | generations_[slot]++ << (kSlotBits + kChannelBits);
  contexts_[slot] = std::move(context);
  return contexts_[slot].get();
}

void ContextTable::destroy(Context& context) noexcept {
  const std::uint32_t slot = context.number & kSlotMask;
  contexts_[slot].reset();
  // A number is never given twice: what was sent to a communicator may arrive long after its end.
  if (generations_[slot] <= kLastGeneration) free_.push_back(slot);
}

}  // namespace mooncake_mpi
