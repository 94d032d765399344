#pragma once

// The addresses of all processes that this one knows, a hundred bytes each: most of them it will
// never talk to. What lanes say of themselves is kept as what differs from another process of the
// same host. Engine lock held for every call.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "wire/address.h"

namespace mooncake_mpi {

struct Peer;

// Numbers by something that they stand for, which lies elsewhere: four bytes each, and some room.
class NumberTable {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // The number for which `is_it` is true, or kNone.
  template <class IsIt>
  std::uint32_t find(std::uint64_t hash, IsIt&& is_it) const {
    if (slots_.empty()) return kNone;
    for (std::size_t at = hash % slots_.size(); slots_[at] != kNone;
         at = (at + 1) % slots_.size()) {
      if (is_it(slots_[at])) return slots_[at];
    }
    return kNone;
  }
  // Room for one more; `hash_of` gives that of each that is in it.
  template <class HashOf>
  void reserve_one(HashOf&& hash_of) {
    if (4 * (count_ + 1) <= 3 * slots_.size()) return;
    std::vector<std::uint32_t> old(slots_.size() + slots_.size() / 2 + 16, kNone);
    old.swap(slots_);
    for (const std::uint32_t number : old) {
      if (number != kNone) place(hash_of(number), number);
    }
  }
  // There is room.
  void insert(std::uint64_t hash, std::uint32_t number) noexcept {
    place(hash, number);
    ++count_;
  }

 private:
  void place(std::uint64_t hash, std::uint32_t number) noexcept {
    std::size_t at = hash % slots_.size();
    while (slots_[at] != kNone)
      at = (at + 1) % slots_.size();
    slots_[at] = number;
  }

  std::vector<std::uint32_t> slots_;
  std::size_t count_ = 0;
};

class AddressBook {
 public:
  static constexpr std::uint32_t kNone = NumberTable::kNone;

  // The number of the process of that address, which it keeps; `added` is set where it was not
  // known. As it was before where there is no memory.
  std::uint32_t add(const wire::Address& address, bool& added);
  // kNone where it is not known.
  std::uint32_t find(const wire::Uid& uid) const;

  // Any thread, without the engine's lock.
  std::optional<wire::Secret> secret_known_of(const wire::Uid& uid) const;

  // As it was added, but for the context.
  wire::Address address(std::uint32_t number) const;
  const wire::Secret& secret(std::uint32_t number) const { return records_[number].secret; }
  std::int32_t pid(std::uint32_t number) const { return records_[number].pid; }
  bool is_of(std::uint32_t number, const wire::Uid& host) const {
    return hosts_[records_[number].host].id == host;
  }
  std::size_t size() const noexcept { return records_.size(); }

  // What the owner of the book keeps with a process; zero at first.
  std::uint32_t& note(std::uint32_t number) { return records_[number].note; }
  std::uint32_t note(std::uint32_t number) const { return records_[number].note; }

 private:
  struct Record {
    wire::Uid uid;
    wire::Secret secret;
    std::uint64_t start_time;
    std::int32_t pid;
    std::uint32_t host;
    std::uint32_t sections;  // where they are, in blocks_
    std::uint32_t note = 0;
  };
  struct Host {
    wire::Uid id;
    std::uint32_t first;  // the process that the others of the host are told from
  };
  static constexpr std::size_t kBlockBytes = 1 << 16;

  std::vector<std::byte> sections_of(std::uint32_t number) const;
  std::vector<std::byte> reference_of(std::uint32_t number, std::uint32_t host) const;
  std::uint32_t keep(std::span<const std::byte> bytes);
  std::uint32_t find_host(const wire::Uid& host) const;

  // Held by who adds, and by whoever looks without the engine's lock.
  mutable std::mutex mutex_;
  std::deque<Record> records_;  // which never move, and leave no room unused
  std::deque<Host> hosts_;
  NumberTable by_uid_;
  NumberTable by_host_;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::size_t block_used_ = kBlockBytes;
};

}  // namespace mooncake_mpi
