// Packets that wait for room in a peer's channel, and the memory that they wait in. The engine's
// lock is held for every call.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "transport/transport.h"

namespace mooncake_mpi {

struct Operation;

// An operation that has yet to announce itself, or a control packet. One queue for both keeps a
// peer's packets in the order they were made in.
struct OutboxEntry {
  OutboxEntry* next = nullptr;
  Operation* operation = nullptr;
  wire::Header header{};
  std::array<std::byte, Channel::kMaxPrefixBytes> payload{};
  std::uint32_t payload_bytes = 0;
};

// Whoever is going to answer a peer must not find, with half of it done, that there is no memory to
// queue the answer in: so memory for some entries is reserved first, while nothing has changed yet.
class OutboxMemory {
 public:
  OutboxMemory() = default;
  ~OutboxMemory();
  OutboxMemory(const OutboxMemory&) = delete;
  OutboxMemory& operator=(const OutboxMemory&) = delete;

  // More than any one packet, or any one turn of a transfer, makes.
  static constexpr std::size_t kReserve = 8;
  // Afterwards so many entries can be taken without failure. Throws std::bad_alloc.
  void reserve(std::size_t entries = kReserve) {
    if (spare_count_ < entries) [[unlikely]]
      grow(entries);
  }

  OutboxEntry& take();
  void give_back(OutboxEntry& entry) noexcept;

 private:
  static constexpr std::size_t kKeep = 4096;
  void grow(std::size_t entries);

  OutboxEntry* spare_ = nullptr;
  std::size_t spare_count_ = 0;
};

// Of one peer, the oldest first.
class Outbox {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  OutboxEntry& front() const noexcept { return *first_; }
  void push_back(OutboxEntry& entry) noexcept {
    entry.next = nullptr;
    *last_ = &entry;
    last_ = &entry.next;
  }
  void pop_front(OutboxMemory& memory) noexcept {
    OutboxEntry* entry = std::exchange(first_, first_->next);
    if (first_ == nullptr) last_ = &first_;
    memory.give_back(*entry);
  }
  void remove(const Operation& operation, OutboxMemory& memory) noexcept;
  void clear(OutboxMemory& memory) noexcept {
    while (!empty())
      pop_front(memory);
  }

  Outbox() = default;
  ~Outbox() {
    while (first_ != nullptr)
      delete std::exchange(first_, first_->next);
  }
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

 private:
  OutboxEntry* first_ = nullptr;
  OutboxEntry** last_ = &first_;
};

}  // namespace mooncake_mpi
