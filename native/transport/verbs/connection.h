#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/verbs/config.h"
#include "transport/verbs/rail.h"

namespace mooncake_mpi::verbs {

class VerbsChannel;
struct Path;
struct Read;

// A piece of a read that is under way; read is null where a request is none.
struct Fragment {
  Read* read = nullptr;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;
};

// One connected queue pair, from its making until the adapter has let go of it. A path has at most
// one at a time; those that failed are kept until their last completions are in.
struct Connection {
  VerbsChannel* channel = nullptr;
  Path* path = nullptr;
  Rail* rail = nullptr;
  std::unique_ptr<verbs_driver::QueuePair> pair;
  std::uint32_t slot = 0;        // in the table
  std::uint32_t generation = 0;  // of the slot
  std::uint32_t psn = 0;
  bool failed = false;
  std::uint64_t retired_ns = 0;

  // Requests are numbered as they are posted and complete in that order. One completion stands for
  // all requests before it, too, so what is not signaled, or got lost, is accounted for.
  std::uint32_t posted = 0;
  std::uint32_t completed = 0;
  std::uint32_t unsignaled = 0;  // since the last signaled one
  std::uint32_t reads = 0;       // fragments under way
  std::uint64_t read_bytes = 0;
  std::uint32_t seen_completed = 0;  // at the last heartbeat
  struct Request {
    Fragment fragment;
    std::uint32_t sequence = 0;  // of a packet
    bool packet = false;
  };
  std::array<Request, kSendDepth> requests;

  Request& request(std::uint32_t number) noexcept { return requests[number % kSendDepth]; }
  std::uint32_t room() const noexcept { return kSendDepth - (posted - completed); }
};

// Connections by the ids of their requests, which outlive them: a completion that comes late finds
// nothing.
class ConnectionTable {
 public:
  Connection& add(std::unique_ptr<Connection> connection);
  void remove(Connection& connection);
  std::size_t count() const noexcept { return connections_.size() - free_.size(); }
  void remove_all(const VerbsChannel& channel);

  static std::uint64_t id_of(const Connection& connection, std::uint32_t request) noexcept {
    return kSend | std::uint64_t{connection.slot} << 40 |
           std::uint64_t{connection.generation & kGenerationMask} << 20 | (request & kRequestMask);
  }
  static bool is_send(std::uint64_t id) noexcept { return (id & kSend) != 0; }
  // The connection and the number of its request, or nullptr.
  Connection* find(std::uint64_t id, std::uint32_t& request) const noexcept;

 private:
  static constexpr std::uint64_t kSend = std::uint64_t{1} << 63;
  static constexpr std::uint32_t kGenerationMask = (1u << 20) - 1;
  static constexpr std::uint32_t kRequestMask = (1u << 20) - 1;
  static constexpr std::uint32_t kSlotMask = (1u << 20) - 1;

  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::uint32_t> generations_;
  std::vector<std::uint32_t> free_;
};

}  // namespace mooncake_mpi::verbs
