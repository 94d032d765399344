// Packets that found no room in their channel, and the way in which every control packet is sent.
// Engine lock held for every call.
#include <algorithm>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

OutboxMemory::~OutboxMemory() {
  while (spare_ != nullptr)
    delete std::exchange(spare_, spare_->next);
}

void OutboxMemory::grow(std::size_t entries) {
  for (; spare_count_ < entries; ++spare_count_)
    spare_ = new OutboxEntry{.next = spare_};
}

OutboxEntry& OutboxMemory::take() {
  if (spare_ == nullptr) grow(1);
  OutboxEntry& entry = *std::exchange(spare_, spare_->next);
  --spare_count_;
  return entry;
}

void OutboxMemory::give_back(OutboxEntry& entry) noexcept {
  if (spare_count_ >= kKeep) {
    delete &entry;
    return;
  }
  entry.next = std::exchange(spare_, &entry);
  ++spare_count_;
}

void Outbox::remove(const Operation& operation, OutboxMemory& memory) noexcept {
  for (OutboxEntry** link = &first_; *link != nullptr;) {
    OutboxEntry* entry = *link;
    if (entry->operation != &operation) {
      link = &entry->next;
      continue;
    }
    *link = entry->next;
    if (*link == nullptr) last_ = link;
    memory.give_back(*entry);
  }
}

bool Protocol::send_or_queue(Peer& peer, const wire::Header& header, Bytes payload) {
  if (peer.outbox.empty() && peer.channel->try_send(header, payload, {})) return true;
  OutboxEntry& entry = queue(peer);
  entry.operation = nullptr;
  entry.header = header;
  entry.payload_bytes = static_cast<std::uint32_t>(payload.size());
  std::memcpy(entry.payload.data(), payload.data(), payload.size());
  return false;
}

OutboxEntry& Protocol::queue(Peer& peer) {
  OutboxEntry& entry = outbox_memory_.take();
  peer.outbox.push_back(entry);
  if (!peer.linked()) {
    peers_with_outbox_.push_back(peer);
    add(queued_peers_, 1);
  }
  return entry;
}

unsigned Protocol::flush(Peer& peer) {
  unsigned sent = 0;
  while (!peer.outbox.empty()) {
    const OutboxEntry& entry = peer.outbox.front();
    if (entry.operation != nullptr) {
      if (!announce(*entry.operation)) break;
    } else if (!peer.channel->try_send(entry.header,
                                       Bytes(entry.payload.data(), entry.payload_bytes), {})) {
      break;
    }
    peer.outbox.pop_front(outbox_memory_);
    ++sent;
  }
  return sent;
}

void Protocol::drop_from_outbox(Operation& send) {
  send.peer->outbox.remove(send, outbox_memory_);
}

void Protocol::want_room(bool wanted) {
  peers_with_outbox_.for_each([&](Peer& peer) {
    if (peer.channel != nullptr) peer.channel->want_room(wanted);
  });
  work_.for_each([&](Operation& operation) {
    if (operation.stage == Operation::Stage::kStreaming) operation.peer->channel->want_room(wanted);
  });
}

unsigned Protocol::advance_outboxes() {
  unsigned progress = 0;
  peers_with_outbox_.for_each([&](Peer& peer) {
    progress += flush(peer);
    if (!peer.outbox.empty()) return;
    IntrusiveList<Peer, OutboxTag>::remove(peer);
    add(queued_peers_, -1);
  });
  return progress;
}

unsigned Protocol::advance() {
  unsigned progress = 0;
  if (!peers_with_outbox_.empty()) [[unlikely]]
    progress = advance_outboxes();
  if (!parkable_.empty()) [[unlikely]]
    progress += advance_parking();
  if (!work_.empty()) [[unlikely]] {
    work_.for_each([&](Operation& operation) {
      outbox_memory_.reserve();
      if (operation.kind == Operation::Kind::kSend) {
        progress += advance_stream(operation);
      } else if (operation.stage == Operation::Stage::kLanding) {
        progress += advance_landing(operation);
      } else {  // a sink that had no room
        ask(operation);
        progress += static_cast<ListLink<WorkTag>&>(operation).linked() ? 0 : 1;
      }
    });
  }
  return progress;
}

}  // namespace mooncake_mpi
