// Which registrations of the pool's memory are kept, shared and given up. acquire() is called by
// one thread at a time, under the engine's lock; pages may go in any thread, and a lock of the
// cache guards the rest.
#include "memory/registration_cache.h"

#include <iterator>
#include <utility>

namespace mooncake_mpi {

RegistrationCache::RegistrationCache(verbs_driver::Device& device, SharedPool& pool,
                                     std::size_t limit)
    : device_(device), pool_(pool), limit_(limit) {
  pool_.observe(*this);
}

RegistrationCache::~RegistrationCache() {
  pool_.unobserve(*this);
}

RegistrationCache::Region RegistrationCache::acquire(const std::byte* address, std::size_t bytes) {
  if (limit_ == 0) return nullptr;
  const std::span<std::byte> range = pool_.surroundings(address, bytes, kGranule);
  if (range.empty() || range.size() > limit_) return nullptr;
  // Held until the registration is known: pages that go meanwhile take it along.
  std::lock_guard lock(mutex_);
  if (Region known = find({address, bytes})) return known;
  return add(range);
}

// Of those that begin before the bytes the last one has the last end.
RegistrationCache::Region RegistrationCache::find(std::span<const std::byte> bytes) {
  auto after = by_address_.upper_bound(bytes.data());
  if (after == by_address_.begin()) return nullptr;
  const Entries::iterator entry = std::prev(after)->second;
  if (entry->end < bytes.data() + bytes.size()) return nullptr;
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->region;
}

RegistrationCache::Region RegistrationCache::add(std::span<std::byte> bytes) {
  const std::byte* begin = bytes.data();
  const std::byte* end = begin + bytes.size();
  for (auto within = by_address_.lower_bound(begin);
       within != by_address_.end() && within->second->end <= end;) {
    drop((within++)->second);
  }
  make_room(bytes.size());
  constexpr unsigned kAccess = verbs_driver::kLocalWrite | verbs_driver::kRemoteRead;
  auto registered = device_.register_memory(bytes.data(), bytes.size(), kAccess);
  if (!registered && drop_all()) {  // what may be locked is used up, perhaps by these
    registered = device_.register_memory(bytes.data(), bytes.size(), kAccess);
  }
  if (!registered) return nullptr;
  entries_.push_front({begin, end, std::move(registered).value()});
  try {
    by_address_.emplace(begin, entries_.begin());
  } catch (...) {
    entries_.pop_front();
    throw;
  }
  bytes_ += bytes.size();
  return entries_.front().region;
}

void RegistrationCache::make_room(std::size_t bytes) {
  while (!entries_.empty() && bytes_ + bytes > limit_)
    drop(std::prev(entries_.end()));
}

// Messages that use the registration keep it until they are over.
void RegistrationCache::drop(Entries::iterator entry) noexcept {
  bytes_ -= static_cast<std::size_t>(entry->end - entry->begin);
  by_address_.erase(entry->begin);
  entries_.erase(entry);
}

bool RegistrationCache::drop_all() noexcept {
  if (entries_.empty()) return false;
  entries_.clear();
  by_address_.clear();
  bytes_ = 0;
  return true;
}

bool RegistrationCache::clear() {
  std::lock_guard lock(mutex_);
  return drop_all();
}

void RegistrationCache::on_discard(std::span<const std::byte> bytes) noexcept {
  std::lock_guard lock(mutex_);
  auto one = by_address_.upper_bound(bytes.data());
  while (one != by_address_.begin() && std::prev(one)->second->end > bytes.data())
    --one;
  while (one != by_address_.end() && one->first < bytes.data() + bytes.size())
    drop((one++)->second);
}

std::size_t RegistrationCache::registered_bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace mooncake_mpi
