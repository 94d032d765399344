#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace mooncake_mpi {

// Whether messages of one peer between the two eager limits come at once or are announced first, by
// what both have cost this receiver. At once is two copies by the processors, through a ring; how
// long these take depends on the caches that the two cores share, by a factor of three and more.
// The time from one message to the next is what counts, as it has all in it that either way costs
// the two processes: so rows of messages of one length and way are timed. Now and then the other
// way has its turn, to know. Where most messages come before their receives it is at once, so that
// nobody waits for the receiver. Engine lock held for every call.
class EagerChoice {
 public:
  enum Way : std::uint8_t { kEager, kAnnounced };

  // The sender's part: what `advice` says of a message of that length.
  static bool announces(std::uint32_t advice, std::uint64_t bytes) noexcept {
    return (advice >> length_class(bytes) & 1) != 0;
  }

  // A message is whole whose receive was there before it.
  void on_whole(Way way, std::uint64_t bytes, std::uint64_t now_ns) noexcept {
    const std::size_t length = length_class(bytes);
    Known& known = known_[length];
    known.late -= known.late != 0 ? 1 : 0;
    if (known.trial_left != 0 && --known.trial_left == 0) end_trial(known);
    if (since_ns_ == 0 || way != way_ || length != length_) {
      begin_row(way, length, now_ns);
      last_ns_ = now_ns;
      cold_left_ = kCold;
      return;
    }
    cold_left_ -= cold_left_ != 0 ? 1 : 0;
    bytes_ += bytes;
    ++messages_;
    const bool is_first = is_first_of_some(now_ns - std::exchange(last_ns_, now_ns));
    if (messages_ < kRow || (!is_first && messages_ < kLongestRow)) return;
    const std::uint64_t cost = std::max<std::uint64_t>(1, (now_ns - since_ns_) * 1024 / bytes_);
    begin_row(way, length, now_ns);
    if (cold_left_ != 0) return;
    learn(known.cost[way], cost);
    choose(known, way);
  }

  // One has come whose receive is not there yet.
  void on_early(std::uint64_t bytes) noexcept {
    Known& known = known_[length_class(bytes)];
    since_ns_ = 0;
    known.late = std::min(known.late + 2, 2 * kLate);
    if (known.late < kLate) return;
    known.best = kEager;
    end_trial(known);
  }

  std::uint32_t advice() const noexcept {
    std::uint32_t advice = 0;
    for (std::size_t i = 0; i < kClasses; ++i)
      advice |= static_cast<std::uint32_t>(known_[i].advised == kAnnounced) << i;
    return advice;
  }

 private:
  static constexpr int kShortest = 14;  // bits of the first class: to 16 KiB
  static constexpr std::size_t kClasses = 8;
  static constexpr std::uint32_t kRow = 8;  // messages that are timed as one
  static constexpr std::uint32_t kLongestRow = 64;
  // After the other way, whose messages are in the caches and in the gaps still.
  static constexpr std::uint32_t kCold = 24;
  static constexpr std::uint32_t kFirst = 4;      // rows before the first trial
  static constexpr std::uint32_t kOftenest = 32;  // rows between two others
  static constexpr std::uint32_t kSeldomest = 512;
  static constexpr std::uint32_t kTrial = 256;  // messages: a window may be under way already
  static constexpr std::uint32_t kLate = 16;

  // Of messages of about the same length.
  struct Known {
    std::array<std::uint64_t, 2> cost{};  // ns for 1024 bytes; 0: not known
    std::uint32_t rows = 0;               // since the last trial
    std::uint32_t most = kFirst;          // of them: then the other way is tried
    std::uint32_t trial_left = 0;         // messages; 0: none is under way
    std::uint32_t late = 0;               // receives, of late
    Way best = kEager;
    Way advised = kEager;
  };

  static std::size_t length_class(std::uint64_t bytes) noexcept {
    const int bits = static_cast<int>(std::bit_width(bytes - 1)) - kShortest;
    return static_cast<std::size_t>(std::clamp(bits, 0, static_cast<int>(kClasses) - 1));
  }

  void begin_row(Way way, std::size_t length, std::uint64_t now_ns) noexcept {
    way_ = way;
    length_ = length;
    since_ns_ = now_ns;
    bytes_ = 0;
    messages_ = 0;
  }

  // Copies are heard of several at once: so a row goes from the first of some to the first of
  // others. A pause counts for little in what is usual.
  bool is_first_of_some(std::uint64_t gap_ns) noexcept {
    if (gap_ns_ == 0) gap_ns_ = std::max<std::uint64_t>(1, gap_ns);
    const bool is_first = 2 * gap_ns >= gap_ns_;
    gap_ns_ += std::min(gap_ns, 32 * gap_ns_) / 16;
    gap_ns_ -= gap_ns_ / 16;
    return is_first;
  }

  static void end_trial(Known& known) noexcept {
    known.advised = known.best;
    known.trial_left = 0;
    known.rows = 0;
  }

  // What makes a row slow (a program that computes between messages, interruptions) says little
  // about the way, what makes it fast says much.
  static void learn(std::uint64_t& known, std::uint64_t cost) noexcept {
    if (known == 0 || cost < known) {
      known = cost;
    } else if (cost < 4 * known) {
      known += (cost - known) / 8;
    } else {
      known += known / 64 + 1;
    }
  }

  void choose(Known& known, Way way) noexcept {
    const bool tried = known.trial_left != 0;
    if (tried && way != known.advised) return;
    const Way other = known.best == kEager ? kAnnounced : kEager;
    const std::uint64_t other_cost = known.cost[other];
    // Clearly less, lest two that cost the same take turns.
    if (other_cost != 0 && other_cost * 16 < known.cost[known.best] * 15) {
      known.best = other;
      known.most = kOftenest;
      end_trial(known);
    } else if (tried) {
      known.most = std::clamp(2 * known.most, kOftenest, kSeldomest);
      end_trial(known);
    } else if (++known.rows >= known.most && known.late < kLate) {
      known.advised = other;
      known.trial_left = kTrial;
    }
  }

  std::array<Known, kClasses> known_{};
  std::uint64_t since_ns_ = 0;  // 0: no row has begun
  std::uint64_t last_ns_ = 0;
  std::uint64_t gap_ns_ = 0;  // from one message to the next, as usual
  std::uint64_t bytes_ = 0;
  std::uint32_t cold_left_ = 0;  // messages
  std::uint32_t messages_ = 0;
  std::size_t length_ = 0;
  Way way_ = kEager;
};

}  // namespace mooncake_mpi
