#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace mooncake_mpi {

// Which of two ways the messages of one peer take, by what both have cost: a stream through the
// ring, or a copy by the kernel. Which is faster depends on how far the two cores are from each
// other (twice as fast one way or the other), on pages and kernels, and may change when a process
// is moved. Messages that are under way at the same time take the same way, so that each can be
// timed: a period ends when none is left. The kernel's copies are under way one at a time, so some
// of a row are one period: the peer's copies of what this process sends are heard of only when they
// are over. What was sent meanwhile counts as well, since a process that copies alone leaves the
// peer's streams waiting. Now and then some take the other way, to know. Engine lock held for every
// call.
class WayChoice {
 public:
  enum Way : std::uint8_t { kStream, kKernel };
  static constexpr std::size_t kWays = 2;

  // The way of a message that begins now. Where a stream is not to be had it is the other, and
  // where that is so for many nothing is learnt of the period. `sent`: bytes that were sent to the
  // peer so far. `leader`: what the peer's choice says(), where this one follows it, else 0.
  Way begin(std::uint64_t bytes, bool can_stream, std::uint64_t now_ns, std::uint64_t sent,
            std::uint32_t leader) noexcept {
    const std::size_t length = length_class(bytes);
    if ((under_way_ == 0 && !goes_on_) || bytes_ > kLongestBytes) {
      alike_ = under_way_ == 0;
      under_way_ = 0;
      bytes_ = 0;
      messages_ = strays_ = 0;
      length_ = length;
      since_ns_ = now_ns;
      sent_before_ = sent;
      way_ = choose(known_[length]);
      // While messages go both ways the two take the same: one of them alone would be left behind.
      const bool follows = leader != leader_ && (leader >> 1) % kWords == length;
      if (follows) way_ = static_cast<Way>(leader & 1);
      leader_ = leader;
      said_ =
          (said_ / (2 * kWords) + 1) * 2 * kWords + static_cast<std::uint32_t>(2 * length) + way_;
    }
    alike_ &= length == length_;
    ++messages_;
    strays_ += can_stream || way_ == kKernel ? 0 : 1;
    ++under_way_;
    goes_on_ = false;
    bytes_ += bytes;
    return can_stream ? way_ : kKernel;
  }

  // One of them is over; `more`: another one waits for its turn.
  void end(std::uint64_t now_ns, std::uint64_t sent, bool more) noexcept {
    if (under_way_ == 0 || --under_way_ != 0) return;
    goes_on_ = more && way_ == kKernel && messages_ < kRow;
    if (goes_on_) return;
    Known& known = known_[length_];
    if (way_ == better(known)) known.since += bytes_;
    if (strays_ * 4 > messages_) return;
    known.bytes[way_] = bytes_;
    if (messages_ > kRow && known.tried == way_) known.trials = 0;  // with so many one is enough
    if (!alike_) return;
    const std::uint64_t moved = bytes_ + (sent - sent_before_);
    learn(known, std::max<std::uint64_t>(1, (now_ns - since_ns_) * 1024 / moved));
  }

  // For the peer's: the way and length of this period, and a number of its own.
  std::uint32_t says() const noexcept { return said_; }

 private:
  static constexpr std::uint32_t kWords = 8;               // classes that a word can name
  static constexpr std::uint64_t kLongestBytes = 1 << 30;  // of a period
  static constexpr int kShortest = 17;                     // bits of the first class: to 128 KiB
  static constexpr std::size_t kClasses = 5;
  static constexpr std::uint32_t kRow = 8;  // of the kernel's copies, in a period
  static constexpr std::uint32_t kOftenest = 8;
  // In a row, as the first one finds in no cache what the other way has left there.
  static constexpr std::uint32_t kTrials = 3;

  // Of messages of about the same length.
  struct Known {
    std::array<std::uint64_t, kWays> cost{};   // ns for 1024 bytes; 0: not known
    std::array<std::uint64_t, kWays> bytes{};  // of the last period
    std::uint64_t since = 0;                   // bytes since the other way was tried
    std::uint32_t most = kOftenest;            // of the longer way's periods: then it is tried
    std::uint32_t trials = 0;                  // to come
    Way tried = kKernel;
  };

  static std::size_t length_class(std::uint64_t bytes) noexcept {
    const int bits = static_cast<int>(std::bit_width(bytes - 1)) - kShortest;
    return static_cast<std::size_t>(std::clamp(bits, 0, static_cast<int>(kClasses) - 1));
  }

  // A stream has to be clearly faster: it is two copies, of two cores, through their caches.
  static Way better(const Known& known) noexcept {
    return known.cost[kStream] * 5 <= known.cost[kKernel] * 4 ? kStream : kKernel;
  }

  // The worse one costs at most a hundredth of all.
  static Way choose(Known& known) noexcept {
    if (known.trials != 0) return try_out(known, known.tried);
    for (const Way way : {kStream, kKernel}) {
      if (known.cost[way] == 0) return try_out(known, way);
    }
    const Way best = better(known);
    const Way other = best == kStream ? kKernel : kStream;
    if (known.since < known.most * std::max(known.bytes[best], known.bytes[other])) return best;
    const bool close = known.cost[other] * 4 < known.cost[best] * 5;
    known.since = 0;
    known.most = std::min<std::uint32_t>(2 * known.most, close ? 64 : 256);
    return try_out(known, other);
  }

  static Way try_out(Known& known, Way way) noexcept {
    known.trials = known.trials == 0 ? kTrials - 1 : known.trials - 1;
    known.tried = way;
    return way;
  }

  // What makes a message slow (pages that are touched for the first time, interruptions) says
  // little about the way, what makes it fast says much.
  void learn(Known& known, std::uint64_t cost) noexcept {
    const Way before = better(known);
    std::uint64_t& known_cost = known.cost[way_];
    if (known_cost == 0 || cost < known_cost) {
      known_cost = cost;
    } else {
      known_cost += std::min(cost - known_cost, known_cost) / 8;
    }
    if (better(known) != before) known.most = kOftenest;
  }

  std::array<Known, kClasses> known_{};
  std::uint64_t since_ns_ = 0;
  std::uint64_t bytes_ = 0;  // of the period's messages
  std::uint64_t sent_before_ = 0;
  std::uint32_t under_way_ = 0;
  std::uint32_t messages_ = 0;  // of the period; strays: that had no choice
  std::uint32_t strays_ = 0;
  std::uint32_t said_ = 0;
  std::uint32_t leader_ = 0;
  std::size_t length_ = 0;
  Way way_ = kStream;
  bool alike_ = false;    // of one length
  bool goes_on_ = false;  // with the next message, though none is under way
};

}  // namespace mooncake_mpi
