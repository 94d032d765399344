#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "drivers/verbs/verbs.h"
#include "memory/shared_pool.h"

namespace mooncake_mpi {

// Memory of the pool stays registered with an adapter after its first message: the pool tells when
// pages go back to the system, so that no registration is ever of pages that are not there any
// more. What one registration covers is in multiples of kGranule, and arrays that lie side by side
// share it. It allows both what sending and what receiving needs.
//
// Calls of acquire() are serialised by the caller; pages may go in any thread. Outlived by the pool
// and by the device.
class RegistrationCache final : private SharedPool::Observer {
 public:
  using Region = std::shared_ptr<verbs_driver::MemoryRegion>;
  static constexpr std::size_t kGranule = std::size_t{2} << 20;

  // Registers at most `limit` bytes: when it is full, what was not used for the longest time goes.
  RegistrationCache(verbs_driver::Device& device, SharedPool& pool, std::size_t limit);
  ~RegistrationCache() override;
  RegistrationCache(const RegistrationCache&) = delete;
  RegistrationCache& operator=(const RegistrationCache&) = delete;

  // A registration that covers these bytes; nullptr where they are not the pool's, more than the
  // limit, or refused by the device.
  Region acquire(const std::byte* address, std::size_t bytes);

  // Keeps nothing any more; false where there was nothing.
  bool clear();

  std::size_t registered_bytes() const;

 private:
  struct Entry {
    const std::byte* begin;
    const std::byte* end;
    Region region;
  };
  using Entries = std::list<Entry>;  // the latest used first

  void on_discard(std::span<const std::byte> bytes) noexcept override;
  Region find(std::span<const std::byte> bytes);
  Region add(std::span<std::byte> bytes);
  void make_room(std::size_t bytes);
  void drop(Entries::iterator entry) noexcept;
  bool drop_all() noexcept;

  verbs_driver::Device& device_;
  SharedPool& pool_;
  const std::size_t limit_;
  mutable std::mutex mutex_;  // taken after the pool's lock, so the pool is not asked with it held
  Entries entries_;
  // By their first bytes. None lies within another, so their ends are in the same order.
  std::map<const std::byte*, Entries::iterator> by_address_;
  std::size_t bytes_ = 0;
};

}  // namespace mooncake_mpi
