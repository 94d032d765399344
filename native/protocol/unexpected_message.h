#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "matching/matcher.h"
#include "wire/header.h"

namespace mooncake_mpi {

struct Operation;
struct Peer;

// A message that arrived before its receive: the bytes of an eager one, or where to fetch the rest.
struct UnexpectedMessage : Unexpected {
  Peer* peer = nullptr;
  wire::Header header{};
  std::uint64_t send_id = 0;  // synchronous eager, RTS
  Operation* kept = nullptr;  // what has or gets the bytes of a message that was put back
  std::uint32_t bytes = 0;    // stored behind the object: the message, or the offers of an RTS
  std::uint32_t room = 0;

  std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
  bool is_eager() const noexcept { return header.kind != wire::Kind::kRts; }
};

// Small ones are recycled; how many there can be is bounded by the senders' credits.
class UnexpectedPool {
 public:
  UnexpectedPool() = default;
  UnexpectedPool(const UnexpectedPool&) = delete;
  UnexpectedPool& operator=(const UnexpectedPool&) = delete;
  ~UnexpectedPool() {
    for (UnexpectedMessage* message : free_)
      destroy(message);
  }

  UnexpectedMessage& acquire(std::size_t bytes) {
    UnexpectedMessage* message;
    if (bytes <= kSmall && !free_.empty()) {
      message = free_.back();
      free_.pop_back();
    } else {
      const std::size_t room = bytes <= kSmall ? kSmall : bytes;
      message = new (::operator new(sizeof(UnexpectedMessage) + room)) UnexpectedMessage;
      message->room = static_cast<std::uint32_t>(room);
    }
    message->bytes = static_cast<std::uint32_t>(bytes);
    message->kept = nullptr;
    held_bytes_ += sizeof(UnexpectedMessage) + message->room;
    return *message;
  }

  void release(UnexpectedMessage& message) {
    held_bytes_ -= sizeof(UnexpectedMessage) + message.room;
    if (message.room == kSmall && free_.size() < kKeep && room_to_keep()) {
      free_.push_back(&message);
    } else {
      destroy(&message);
    }
  }

  std::size_t held_bytes() const noexcept { return held_bytes_; }

 private:
  static constexpr std::size_t kSmall = 128;
  static constexpr std::size_t kKeep = 8192;

  // Without memory for the list there is all the more reason to give the message's back.
  bool room_to_keep() noexcept {
    if (free_.size() < free_.capacity()) return true;
    try {
      free_.reserve(2 * free_.size() + 64);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  static void destroy(UnexpectedMessage* message) {
    message->~UnexpectedMessage();
    ::operator delete(message);
  }

  std::vector<UnexpectedMessage*> free_;
  std::size_t held_bytes_ = 0;
};

}  // namespace mooncake_mpi
