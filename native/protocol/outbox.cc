// Packets that found no room in their channel, and the way in which every control packet is sent.
#include <algorithm>

#include "protocol/protocol.h"
#include "protocol/send_control.h"

namespace mooncake_mpi {

bool Protocol::send_or_queue(Peer& peer, const wire::Header& header, Bytes payload) {
  if (peer.outbox.empty() && peer.channel->try_send(header, payload, {})) return true;
  OutboxEntry entry;
  entry.header = header;
  entry.payload_bytes = static_cast<std::uint32_t>(payload.size());
  std::memcpy(entry.payload.data(), payload.data(), payload.size());
  queue(peer, entry);
  return false;
}

void Protocol::queue(Peer& peer, OutboxEntry entry) {
  if (!peer.in_outbox_list) peers_with_outbox_.reserve(peers_with_outbox_.size() + 1);
  peer.outbox.push_back(entry);
  if (!peer.in_outbox_list) {
    peer.in_outbox_list = true;
    peers_with_outbox_.push_back(&peer);
    add(queued_peers_, 1);
  }
}

unsigned Protocol::flush(Peer& peer) {
  unsigned sent = 0;
  while (!peer.outbox.empty()) {
    const OutboxEntry& entry = peer.outbox.front();
    if (entry.operation != nullptr) {
      // announce() may complete and recycle the operation, so the entry goes first.
      Operation& operation = *entry.operation;
      if (!announce(operation)) break;
    } else if (!peer.channel->try_send(entry.header,
                                       Bytes(entry.payload.data(), entry.payload_bytes), {})) {
      break;
    }
    peer.outbox.pop_front();
    ++sent;
  }
  return sent;
}

void Protocol::drop_from_outbox(Operation& send) {
  std::erase_if(send.peer->outbox,
                [&](const OutboxEntry& entry) { return entry.operation == &send; });
}

void Protocol::want_room(bool wanted) {
  for (Peer* peer : peers_with_outbox_) {
    if (peer->channel != nullptr) peer->channel->want_room(wanted);
  }
  work_.for_each([&](Operation& operation) {
    if (operation.stage == Operation::Stage::kStreaming) operation.peer->channel->want_room(wanted);
  });
}

unsigned Protocol::advance() {
  unsigned progress = 0;
  if (!peers_with_outbox_.empty()) [[unlikely]] {
    for (Peer* peer : peers_with_outbox_)
      progress += flush(*peer);
    std::erase_if(peers_with_outbox_, [](Peer* peer) {
      if (peer->outbox.empty()) peer->in_outbox_list = false;
      return peer->outbox.empty();
    });
    queued_peers_.store(static_cast<std::uint32_t>(peers_with_outbox_.size()),
                        std::memory_order_relaxed);
  }
  if (!work_.empty()) [[unlikely]] {
    // Help for others comes last: two processes that receive from each other copy best when each
    // copies its own.
    bool copies = false;
    work_.for_each([&](Operation& operation) {
      if (operation.stage == Operation::Stage::kStreaming) {
        progress += advance_stream(operation);
      } else if (operation.kind == Operation::Kind::kReceive) {
        copies |= advance_copy(operation) != 0;
      } else if (operation.job == Channel::kNoJob) {
        copies |= advance_writing(operation) != 0;
      }
    });
    if (copies) return progress + 1;
    work_.for_each([&](Operation& operation) {
      if (operation.kind == Operation::Kind::kSend && operation.job != Channel::kNoJob) {
        progress += advance_help(operation);
      }
    });
  }
  return progress;
}

}  // namespace mooncake_mpi
