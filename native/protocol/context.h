#pragma once

// A communicator as matching and the wire see it, and the table of all of them. Guarded by the
// engine's lock, but for `revoked`, which calls look at before they take it.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "matching/matcher.h"

namespace mooncake_mpi {

struct Peer;

// The matching spaces of a communicator: messages of different channels never match each other.
// Agreements go on where a communicator was revoked.
enum class MatchChannel : std::uint8_t {
  kMessages = 0,
  kPartitionData = 1,
  kPartitionSetup = 2,
  kAgreements = 3,
  kObjectArrays = 4,
};
inline constexpr std::size_t kMatchChannels = 5;

// Every process numbers its own contexts and tells
// its number to the others, so a message carries the receiver's number: it is an index, and it is
// valid from before the first peer can know it until the communicator is freed.
struct Context {
  struct Member {
    Peer* peer = nullptr;              // a stranger (Peer::is_stranger) until this one is talked to
    std::uint32_t number = 0;          // of this communicator's context in that process
    std::uint32_t known = UINT32_MAX;  // Peer::known, of a stranger too

    bool is(const Peer& other) const noexcept;
  };

  std::uint32_t number = 0;
  std::string label;  // for people
  std::int32_t rank = 0;
  std::int32_t size = 0;
  bool closing = false;   // freed by its owner, kept while anything refers to it
  bool troubled = false;  // revoked, or a member has failed or is not reached: calls look closer
  bool revoked = false;
  bool isolated = false;             // no lane reaches any other member
  std::vector<std::int32_t> failed;  // ranks, in the order in which their end was noticed
  std::size_t acknowledged = 0;      // of them
  std::uint32_t holders = 0;         // outside the engine: calls that wait, matched messages
  std::vector<Member> members;       // by rank; empty until activated
  std::array<std::unique_ptr<Matcher>, kMatchChannels> matchers;

  std::size_t posted_count() const {
    std::size_t count = 0;
    for (const auto& matcher : matchers)
      count += matcher != nullptr ? matcher->posted_count() : 0;
    return count;
  }

  std::size_t unexpected_count() const {
    std::size_t count = 0;
    for (const auto& matcher : matchers)
      count += matcher != nullptr ? matcher->unexpected_count() : 0;
    return count;
  }

  Matcher& matcher(MatchChannel channel) {
    auto& matcher = matchers[static_cast<std::size_t>(channel)];
    if (matcher == nullptr) [[unlikely]]
      matcher = std::make_unique<Matcher>();
    return *matcher;
  }
};

// Contexts by number: slot, match channel and generation packed in 32 bits.
class ContextTable {
 public:
  static constexpr std::uint32_t kSlotBits = 18;
  static constexpr std::uint32_t kChannelBits = 3;

  // nullptr when all slots are taken, or used up: after five hundred million communicators.
  Context* create();
  void destroy(Context& context) noexcept;

  Context* find(std::uint32_t number) const noexcept {
    const std::uint32_t slot = number & kSlotMask;
    if (slot >= contexts_.size()) return nullptr;
    Context* context = contexts_[slot].get();
    return context != nullptr && context->number == (number & ~kChannelMask) ? context : nullptr;
  }

  static std::uint32_t with_channel(std::uint32_t number, MatchChannel channel) noexcept {
    return number | static_cast<std::uint32_t>(channel) << kSlotBits;
  }
  // False when the number names no channel.
  static bool channel_of(std::uint32_t number, MatchChannel& channel) noexcept {
    const std::uint32_t index = (number & kChannelMask) >> kSlotBits;
    channel = static_cast<MatchChannel>(index);
    return index < kMatchChannels;
  }

  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& context : contexts_) {
      if (context != nullptr) visit(*context);
    }
  }

 private:
  static constexpr std::uint32_t kLastGeneration = UINT32_MAX >> (kSlotBits + kChannelBits);
  static constexpr std::uint32_t kSlotMask = (1u << kSlotBits) - 1;
  static constexpr std::uint32_t kChannelMask = ((1u << kChannelBits) - 1) << kSlotBits;

  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<std::uint32_t> generations_;
  std::vector<std::uint32_t> free_;
};

}  // namespace mooncake_mpi
