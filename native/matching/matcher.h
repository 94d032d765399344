// The posted receive queue and the unexpected message queue of one context (a communicator's
// channel), matched as MPI-4.1 section 3.5 asks: a message goes to the oldest posted receive that
// accepts it, a receive takes the oldest message that it accepts.
//
// Every operation costs the same however many receives and messages are outstanding. Receives wait
// in a bin for the (source, tag) they name, wildcards included, so an arriving message looks at
// four bin fronts at most and the smallest post sequence number wins. A message waits in the bin
// of its own (source, tag), and from the first wildcard receive or probe of a kind on also in the
// bin which that kind would look at.
//
// Not thread-safe: the caller holds the lock that protects the context.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "matching/bin_table.h"
#include "matching/envelope.h"
#include "matching/link.h"

namespace mooncake_mpi {

class Matcher;

// A posted receive. The owner derives from it, allocates it, and keeps it in place while posted().
// Set source and tag before Matcher::post; change them only while not posted.
class Posted : private QueueHook<Posted, 0> {
 public:
  Posted() = default;
  Posted(std::int32_t from, std::int32_t with_tag) : source(from), tag(with_tag) {}

  std::int32_t source = kAnySource;
  std::int32_t tag = kAnyTag;

  // In a matcher's queue: not matched, not cancelled yet.
  bool posted() const { return linked(); }

 private:
  friend class Matcher;
  template <class Entry, int kNumber>
  friend class QueueHook;
  std::uint64_t sequence_ = 0;
};

// An arrived message that no posted receive accepted. The owner derives from it, allocates it, and
// keeps it in place while queued().
class Unexpected : private QueueHook<Unexpected, 0>,
                   private QueueHook<Unexpected, 1>,
                   private QueueHook<Unexpected, 2>,
                   private QueueHook<Unexpected, 3> {
 public:
  Unexpected() = default;
  Unexpected(std::int32_t from, std::int32_t with_tag) : source(from), tag(with_tag) {}

  std::int32_t source = 0;
  std::int32_t tag = 0;

  // In a matcher's queue: not matched yet.
  bool queued() const { return QueueHook<Unexpected, 0>::linked(); }

 private:
  template <int kNumber>
  void unlink_if_linked() {
    if (QueueHook<Unexpected, kNumber>::linked()) QueueHook<Unexpected, kNumber>::unlink();
  }

  friend class Matcher;
  template <class Entry, int kNumber>
  friend class QueueHook;
  std::uint64_t sequence_ = 0;
};

class Matcher {
 public:
  Matcher() : Matcher(random_seed()) {}
  // Bins are hashed with `seed`; tests pass one to be repeatable.
  explicit Matcher(std::uint64_t seed);
  // What is still queued becomes unqueued; the owners still own it.
  ~Matcher();
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  // The oldest message that `receive` accepts, removed from the queue; or nullptr, and `receive`
  // is posted.
  Unexpected* post(Posted& receive);

  // The oldest posted receive that accepts a message from (source, tag), removed from the queue;
  // or nullptr, and the caller enqueues the message before the next call that could match it.
  Posted* arrive(std::int32_t source, std::int32_t tag);
  void enqueue(Unexpected& message);
  // A message that was matched before and is not received: before all others.
  void requeue(Unexpected& message);

  // The oldest message that a receive with (source, tag), wildcards allowed, would take, or
  // nullptr. find (probe) leaves it in the queue, take (matched probe) removes it.
  Unexpected* find(std::int32_t source, std::int32_t tag);
  Unexpected* take(std::int32_t source, std::int32_t tag);

  // Whether `receive` was still posted here; it is not afterwards.
  bool cancel(Posted& receive);
  // Removes a queued message whose receive will never come (its sender died, the context closes).
  void remove(Unexpected& message);

  std::size_t posted_count() const { return posted_count_; }
  std::size_t unexpected_count() const { return unexpected_count_; }

  // Oldest first, over a snapshot: `visit` may remove the entry that it was given, but no other.
  // Not for the hot path: the snapshot is collected and sorted.
  template <class F>
  void for_each_posted(F&& visit) const {
    for (Posted* receive : posted_in_order())
      visit(*receive);
  }
  template <class F>
  void for_each_unexpected(F&& visit) const {
    for (Unexpected* message : unexpected_in_order())
      visit(*message);
  }

  // Bins allocated so far, in use or free: tests check that it stays bounded.
  std::size_t bin_capacity() const { return bins_.capacity(); }

 private:
  // How a receive or probe selects; also the number of the Unexpected's hook for that selection.
  enum Selection : unsigned { kExact = 0, kSourceWild = 1, kTagWild = 2, kBothWild = 3 };
  static constexpr std::size_t kSelections = 4;
  static constexpr std::uint64_t kMiddle = std::uint64_t{1} << 63;

  static std::uint64_t random_seed();
  static Selection selection(std::int32_t source, std::int32_t tag) {
    return static_cast<Selection>((source == kAnySource ? kSourceWild : 0u) |
                                  (tag == kAnyTag ? kTagWild : 0u));
  }

  // The Unexpected that `link` is the hook of, for a list of bins with `selection`.
  static Unexpected& message_of(QueueLink& link, Selection selection);

  Posted* older_wildcard(Posted* best, std::int32_t source, std::int32_t tag);
  void unlink(Posted& receive);
  void link(Unexpected& message, Selection selection, bool first = false);
  void link_for_wildcards(Unexpected& message, bool first = false);
  [[gnu::cold, gnu::noinline]] void build_index(Selection selection);

  std::vector<Posted*> posted_in_order() const;
  std::vector<Unexpected*> unexpected_in_order() const;

  BinTable bins_;
  std::size_t posted_count_ = 0;
  std::size_t unexpected_count_ = 0;
  bool indexed_for_wildcards_ = false;
  // Of each selection: receives posted, and whether messages are listed for it.
  std::array<std::size_t, kSelections> posted_of_{};
  std::array<bool, kSelections> indexed_{true, false, false, false};
  std::uint64_t next_sequence_ = kMiddle;
  std::uint64_t first_sequence_ = kMiddle;  // counts down
};

}  // namespace mooncake_mpi
