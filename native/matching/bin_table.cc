#include "matching/bin_table.h"

#include <algorithm>

namespace mooncake_mpi {

namespace {

constexpr std::size_t kFirstSlots = 16;
constexpr std::size_t kFirstChunk = 8;
constexpr std::size_t kLargestChunk = 1024;

}  // namespace

BinTable::BinTable(std::uint64_t seed) : slots_(kFirstSlots), mask_(kFirstSlots - 1), seed_(seed) {}

Bin& BinTable::insert(std::uint64_t key) {
  if (2 * (used_ + 1) > slots_.size()) make_room();
  Bin* bin = allocate();
  last_ = {key, bin};
  place(last_);
  ++used_;
  return *bin;
}

// Afterwards a quarter of the slots is in use at most: as many insertions again must come before
// the next clean-up as this one has slots to visit, but for a constant factor.
void BinTable::make_room() {
  const auto live =
      static_cast<std::size_t>(std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) {
        return slot.bin != nullptr && !slot.bin->empty();
      }));
  std::size_t slot_count = slots_.size();
  while (4 * live > slot_count)
    slot_count *= 2;
  rebuild(slot_count);
}

void BinTable::rebuild(std::size_t slot_count) {
  // What can fail comes first. live_ keeps its memory for the next clean-up.
  std::vector<Slot> grown(slot_count > slots_.size() ? slot_count : 0);
  live_.clear();
  live_.reserve(used_);
  last_ = {};

  for (const Slot& slot : slots_) {
    if (slot.bin == nullptr) continue;
    if (slot.bin->empty()) {
      free_.push_back(slot.bin);
    } else {
      live_.push_back(slot);
    }
  }
  if (grown.empty()) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
  } else {
    slots_.swap(grown);
    mask_ = slot_count - 1;
  }
  for (const Slot& slot : live_)
    place(slot);
  used_ = live_.size();
}

void BinTable::place(const Slot& slot) {
  std::size_t at = hash(slot.key);
  while (slots_[at & mask_].bin != nullptr)
    ++at;
  slots_[at & mask_] = slot;
}

Bin* BinTable::allocate() {
  if (free_.empty()) add_chunk();
  Bin* bin = free_.back();
  free_.pop_back();
  return bin;
}

void BinTable::add_chunk() {
  const std::size_t count = std::clamp(allocated_, kFirstChunk, kLargestChunk);
  chunks_.reserve(chunks_.size() + 1);
  free_.reserve(allocated_ + count);  // push_back in rebuild() must not fail
  auto chunk = std::make_unique<Bin[]>(count);
  for (std::size_t i = count; i-- > 0;) {
    chunk[i].posted.make_list();
    chunk[i].unexpected.make_list();
    free_.push_back(&chunk[i]);
  }
  chunks_.push_back(std::move(chunk));
  allocated_ += count;
}

}  // namespace mooncake_mpi
