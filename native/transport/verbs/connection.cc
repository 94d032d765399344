#include "transport/verbs/connection.h"

#include <utility>

namespace mooncake_mpi::verbs {

Connection& ConnectionTable::add(std::unique_ptr<Connection> connection) {
  connection->rail->connections.reserve(connections_.size() + 1);
  if (free_.empty()) {  // all that can fail comes before any of it counts
    const std::size_t count = connections_.size() + 1;
    free_.reserve(count);
    connections_.reserve(count);
    generations_.reserve(count);
    free_.push_back(static_cast<std::uint32_t>(count - 1));
    connections_.emplace_back();
    generations_.push_back(0);
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  connection->slot = slot;
  connection->generation = ++generations_[slot];
  connection->rail->connections[connection->pair->number()] = connection.get();
  connections_[slot] = std::move(connection);
  return *connections_[slot];
}

void ConnectionTable::remove(Connection& connection) {
  const std::uint32_t slot = connection.slot;
  if (connection.pair != nullptr) connection.rail->connections.erase(connection.pair->number());
  connections_[slot].reset();
  free_.push_back(slot);
}

void ConnectionTable::remove_all(const VerbsChannel& channel) {
  for (const auto& connection : connections_) {
    if (connection != nullptr && connection->channel == &channel) remove(*connection);
  }
}

Connection* ConnectionTable::find(std::uint64_t id, std::uint32_t& request) const noexcept {
  const auto slot = static_cast<std::uint32_t>(id >> 40) & kSlotMask;
  if (slot >= connections_.size() || connections_[slot] == nullptr) return nullptr;
  Connection& connection = *connections_[slot];
  const auto generation = static_cast<std::uint32_t>(id >> 20) & kGenerationMask;
  if ((connection.generation & kGenerationMask) != generation) return nullptr;
  // The id holds the low bits of the number; it lies within kSendDepth of what has completed.
  const auto low = static_cast<std::uint32_t>(id) & kRequestMask;
  const std::uint32_t ahead = (low - connection.completed) & kRequestMask;
  if (ahead >= connection.posted - connection.completed) return nullptr;
  request = connection.completed + ahead;
  return &connection;
}

}  // namespace mooncake_mpi::verbs
