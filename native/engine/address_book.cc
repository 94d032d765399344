#include "engine/address_book.h"

#include <algorithm>
#include <cstring>

namespace mooncake_mpi {
namespace {

using Blob = std::vector<std::byte>;

// Both are random, or as good as that.
std::uint64_t hash_of(const wire::Uid& id) noexcept {
  std::uint64_t hash;
  std::memcpy(&hash, id.data(), sizeof hash);
  return hash;
}

constexpr std::size_t kLongestRun = 255;

void append_number(Blob& to, std::size_t number) {
  to.push_back(static_cast<std::byte>(number));
  to.push_back(static_cast<std::byte>(number >> 8));
}

std::size_t number_at(std::span<const std::byte> from, std::size_t at) noexcept {
  return static_cast<std::size_t>(from[at]) | static_cast<std::size_t>(from[at + 1]) << 8;
}

// All sections, one behind the other: a byte lane, two bytes length, the bytes.
Blob flat(const wire::Address& address) {
  Blob bytes;
  for (const auto& section : address.sections) {
    bytes.push_back(static_cast<std::byte>(section.lane));
    append_number(bytes, section.bytes.size());
    bytes.insert(bytes.end(), section.bytes.begin(), section.bytes.end());
  }
  return bytes;
}

void add_sections(wire::Address& address, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t length = number_at(bytes, 1);
    address.add(static_cast<wire::LaneId>(bytes[0]), bytes.subspan(3, length));
    bytes = bytes.subspan(3 + length);
  }
}

std::byte at_or_zero(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return at < bytes.size() ? bytes[at] : std::byte{0};
}

// `bytes` as what differs from `reference`, behind whose end zeros are thought: their length, then
// again and again a byte how many are the same, a byte how many follow, and these.
Blob differences(std::span<const std::byte> bytes, std::span<const std::byte> reference) {
  // Shorter runs of the same cost less among what differs.
  constexpr std::size_t kWorthARun = 3;
  const auto same_from = [&](std::size_t at) {
    std::size_t count = 0;
    while (at + count < bytes.size() && bytes[at + count] == at_or_zero(reference, at + count))
      ++count;
    return count;
  };
  Blob out;
  append_number(out, bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t same = std::min(same_from(at), kLongestRun);
    at += same;
    if (at == bytes.size()) break;
    std::size_t end = at;
    while (end < bytes.size() && end - at < kLongestRun) {
      const std::size_t more = same_from(end);
      if (more >= kWorthARun || end + more == bytes.size()) break;
      end = std::min(end + more + 1, at + kLongestRun);
    }
    out.push_back(static_cast<std::byte>(same));
    out.push_back(static_cast<std::byte>(end - at));
    out.insert(out.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at),
               bytes.begin() + static_cast<std::ptrdiff_t>(end));
    at = end;
  }
  return out;
}

Blob applied(std::span<const std::byte> differences, std::span<const std::byte> reference) {
  Blob bytes(number_at(differences, 0));
  std::ranges::copy(reference.first(std::min(reference.size(), bytes.size())), bytes.begin());
  std::size_t at = 0;
  for (std::size_t from = 2; from < differences.size();) {
    at += static_cast<std::size_t>(differences[from]);
    const auto count = static_cast<std::size_t>(differences[from + 1]);
    std::memcpy(bytes.data() + at, differences.data() + from + 2, count);
    at += count;
    from += 2 + count;
  }
  return bytes;
}

}  // namespace

std::uint32_t AddressBook::find(const wire::Uid& uid) const {
  return by_uid_.find(hash_of(uid), [&](std::uint32_t at) { return records_[at].uid == uid; });
}

std::uint32_t AddressBook::find_host(const wire::Uid& host) const {
  return by_host_.find(hash_of(host), [&](std::uint32_t at) { return hosts_[at].id == host; });
}

std::uint32_t AddressBook::add(const wire::Address& address, bool& added) {
  const std::uint32_t known = find(address.uid);
  added = known == kNone;
  if (!added) return known;
  const std::lock_guard lock(mutex_);
  by_uid_.reserve_one([&](std::uint32_t at) { return hash_of(records_[at].uid); });
  by_host_.reserve_one([&](std::uint32_t at) { return hash_of(hosts_[at].id); });
  const auto number = static_cast<std::uint32_t>(records_.size());
  std::uint32_t host = find_host(address.host);
  const bool new_host = host == kNone;
  if (new_host) {
    host = static_cast<std::uint32_t>(hosts_.size());
    hosts_.push_back({address.host, number});
  }
  try {
    const std::uint32_t sections = keep(differences(flat(address), reference_of(number, host)));
    records_.push_back(
        {address.uid, address.job_secret, address.start_time, address.pid, host, sections});
  } catch (...) {  // no memory
    if (new_host) hosts_.pop_back();
    throw;
  }
  by_uid_.insert(hash_of(address.uid), number);
  if (new_host) by_host_.insert(hash_of(address.host), host);
  return number;
}

std::optional<wire::Secret> AddressBook::secret_known_of(const wire::Uid& uid) const {
  const std::lock_guard lock(mutex_);
  const std::uint32_t number = find(uid);
  return number != kNone ? std::optional(records_[number].secret) : std::nullopt;
}

wire::Address AddressBook::address(std::uint32_t number) const {
  const Record& record = records_[number];
  wire::Address address;
  address.uid = record.uid;
  address.host = hosts_[record.host].id;
  address.pid = record.pid;
  address.start_time = record.start_time;
  address.job_secret = record.secret;
  add_sections(address, sections_of(number));
  return address;
}

// The first process of all is told from nothing, the first of another host from that one.
std::vector<std::byte> AddressBook::reference_of(std::uint32_t number, std::uint32_t host) const {
  if (number == 0) return {};
  const std::uint32_t first = hosts_[host].first;
  return sections_of(first == number ? 0 : first);
}

std::vector<std::byte> AddressBook::sections_of(std::uint32_t number) const {
  const Record& record = records_[number];
  const std::byte* kept =
      blocks_[record.sections / kBlockBytes].get() + record.sections % kBlockBytes;
  const std::size_t bytes = number_at({kept, 2}, 0);
  return applied({kept + 2, bytes}, reference_of(number, record.host));
}

std::uint32_t AddressBook::keep(std::span<const std::byte> bytes) {
  Blob whole;
  append_number(whole, bytes.size());
  whole.insert(whole.end(), bytes.begin(), bytes.end());
  if (block_used_ + whole.size() > kBlockBytes) {
    blocks_.push_back(std::make_unique<std::byte[]>(kBlockBytes));
    block_used_ = 0;
  }
  const std::size_t at = (blocks_.size() - 1) * kBlockBytes + block_used_;
  std::ranges::copy(whole, blocks_.back().get() + block_used_);
  block_used_ += whole.size();
  return static_cast<std::uint32_t>(at);
}

}  // namespace mooncake_mpi
