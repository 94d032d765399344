// A hash table from (source, tag), wildcards included, to bins of a matcher's queues. The caller
// holds the lock that protects the matcher.
//
// Bins come from a pool and stay where they are, because list entries point at them. An emptied bin
// stays in the table, so that a ping-pong finds its bin again without touching table or pool; when
// the table is full, empty bins are taken out, and it grows only if that did not make room. So the
// memory is bounded by the largest number of bins in use at once, however many tags come and go,
// and the clean-up costs O(1) per insertion on average.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "matching/link.h"

namespace mooncake_mpi {

// Two lists of one (source, tag), oldest entry first.
struct Bin {
  QueueLink posted;
  QueueLink unexpected;

  bool empty() const { return posted.empty() && unexpected.empty(); }
};

class BinTable {
 public:
  explicit BinTable(std::uint64_t seed);

  // The bin of (source, tag), or nullptr when there is none.
  Bin* find(std::int32_t source, std::int32_t tag) {
    const std::uint64_t key = make_key(source, tag);
    if (key == last_.key && last_.bin != nullptr) return last_.bin;
    for (std::size_t at = hash(key);; ++at) {
      const Slot& slot = slots_[at & mask_];
      if (slot.bin == nullptr) return nullptr;
      if (slot.key == key) {
        last_ = slot;
        return slot.bin;
      }
    }
  }

  // The bin of (source, tag), made when there is none. Other empty bins may be recycled, so a Bin
  // without entries does not outlive the next call.
  Bin& get(std::int32_t source, std::int32_t tag) {
    Bin* bin = find(source, tag);
    return bin != nullptr ? *bin : insert(make_key(source, tag));
  }

  // Calls visit(source, tag, bin) for every bin, in no order.
  template <class F>
  void for_each(F&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.bin == nullptr) continue;
      visit(static_cast<std::int32_t>(slot.key >> 32), static_cast<std::int32_t>(slot.key),
            *slot.bin);
    }
  }

  // Bins allocated, in the table or free.
  std::size_t capacity() const { return allocated_; }

 private:
  __extension__ using Uint128 = unsigned __int128;

  struct Slot {
    std::uint64_t key = 0;
    Bin* bin = nullptr;
  };

  static std::uint64_t make_key(std::int32_t source, std::int32_t tag) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(source)) << 32) |
           static_cast<std::uint32_t>(tag);
  }

  // The halves of a 128-bit product depend on every bit of the key; the seed keeps a program whose
  // tags happen to collide in one process from colliding in all.
  std::size_t hash(std::uint64_t key) const {
    const auto product = static_cast<Uint128>(key ^ seed_) * kMultiplier;
    return static_cast<std::size_t>(static_cast<std::uint64_t>(product >> 64) ^
                                    static_cast<std::uint64_t>(product));
  }

  [[gnu::noinline]] Bin& insert(std::uint64_t key);
  void make_room();
  void rebuild(std::size_t slot_count);
  void place(const Slot& slot);
  Bin* allocate();
  void add_chunk();

  static constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15u;

  std::vector<Slot> slots_;
  std::vector<Slot> live_;  // used while rebuilding only
  Slot last_;               // found last: a message and its receive look for the same bin
  std::size_t mask_;
  std::uint64_t seed_;
  std::size_t used_ = 0;
  std::size_t allocated_ = 0;
  std::vector<Bin*> free_;
  std::vector<std::unique_ptr<Bin[]>> chunks_;
};

}  // namespace mooncake_mpi
