#include "memory/cuda/device_end.h"

#include <algorithm>
#include <new>

namespace mooncake_mpi::cuda {
namespace {

cuda_driver::DeviceAddress number(const std::byte* slot) noexcept {
  return reinterpret_cast<cuda_driver::DeviceAddress>(slot);
}

}  // namespace

void DeviceSource::drop_first() noexcept {
  Part& gone = part(0);
  if (queue_.drop(*gone.copy)) slots_.give_back(gone.slot);  // else it is lost
  gone = {};
  first_ = (first_ + 1) % kSlotsInARow;
  --count_;
}

void DeviceSource::drop_all() noexcept {
  while (count_ != 0)
    drop_first();
}

// Nothing is held while the program's stream has other things to do.
void DeviceSource::fetch() noexcept {
  if (!end_.is_ready()) {
    failed_ = queue_.has_failed(end_.allocation.device);
    return;
  }
  while (count_ < kSlotsInARow && next_ < end_.bytes) {
    std::byte* slot = slots_.take(end_.allocation.device, count_ == 0);
    if (slot == nullptr) return;
    const std::uint64_t bytes = std::min<std::uint64_t>(Slots::kBytes, end_.bytes - next_);
    Part& last = part(count_);
    try {
      last.copy = queue_.submit({.kind = Copy::Kind::kDown,
                                 .device = end_.allocation.device,
                                 .to = number(slot),
                                 .from = end_.address + next_,
                                 .bytes = bytes,
                                 .after = end_.ready});
    } catch (const std::bad_alloc&) {
      slots_.give_back(slot);
      return;
    }
    last.slot = slot;
    last.offset = next_;
    last.bytes = bytes;
    next_ += bytes;
    ++count_;
  }
}

std::span<const std::byte> DeviceSource::at(std::uint64_t offset, std::uint64_t most) noexcept {
  if (count_ != 0 && offset < part(0).offset) {  // from the start again
    drop_all();
    next_ = offset;
  }
  while (count_ != 0 && offset >= part(0).offset + part(0).bytes)
    drop_first();
  if (count_ == 0) next_ = offset;
  fetch();
  if (count_ == 0 || !part(0).copy->over()) return {};
  if (part(0).copy->failed()) {
    failed_ = true;
    return {};
  }
  const Part& front = part(0);
  const std::uint64_t within = offset - front.offset;
  return {front.slot + within, std::min(most, front.bytes - within)};
}

DeviceSink::~DeviceSink() {
  for (Part& part : parts_) {
    const bool free = part.copy == nullptr || queue_.drop(*part.copy);
    if (part.slot != nullptr && free) slots_.give_back(part.slot);
  }
}

bool DeviceSink::is_untouched() const noexcept {
  return !failed_ &&
         std::ranges::all_of(parts_, [](const Part& part) { return part.slot == nullptr; });
}

std::span<std::byte> DeviceSink::room(std::uint64_t offset, std::uint64_t most) noexcept {
  if (open_ != nullptr && open_->offset + open_->used != offset) send_off(*open_);
  if (open_ == nullptr) {
    if (!end_.is_ready() && !queue_.has_failed(end_.allocation.device)) return {};
    collect();
    const auto free = std::ranges::find(parts_, nullptr, &Part::slot);
    if (free == parts_.end()) return {};
    const bool first =
        std::ranges::all_of(parts_, [](const Part& part) { return part.slot == nullptr; });
    std::byte* slot = slots_.take(end_.allocation.device, first);
    if (slot == nullptr) return {};
    *free = {.slot = slot, .offset = offset, .used = 0, .copy = nullptr};
    open_ = &*free;
  }
  return {open_->slot + open_->used, std::min<std::uint64_t>(most, Slots::kBytes - open_->used)};
}

void DeviceSink::put(std::uint64_t, std::uint64_t bytes) noexcept {
  open_->used += bytes;
  if (open_->used == Slots::kBytes || open_->offset + open_->used == end_.bytes) send_off(*open_);
}

void DeviceSink::send_off(Part& part) noexcept {
  open_ = nullptr;
  try {
    part.copy = queue_.submit({.kind = Copy::Kind::kUp,
                               .device = end_.allocation.device,
                               .to = end_.address + part.offset,
                               .from = number(part.slot),
                               .bytes = part.used,
                               .after = end_.ready});
  } catch (const std::bad_alloc&) {
    failed_ = true;
    slots_.give_back(part.slot);
    part = {};
  }
}

void DeviceSink::collect() noexcept {
  for (Part& part : parts_) {
    if (part.copy == nullptr || !part.copy->over()) continue;
    failed_ |= part.copy->failed();
    slots_.give_back(part.slot);
    part = {};
  }
}

Landing DeviceSink::landed() noexcept {
  if (open_ != nullptr) send_off(*open_);
  collect();
  const bool under_way =
      std::ranges::any_of(parts_, [](const Part& part) { return part.slot != nullptr; });
  if (under_way) return Landing::kUnderWay;
  return failed_ ? Landing::kFailed : Landing::kDone;
}

}  // namespace mooncake_mpi::cuda
