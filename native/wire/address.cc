// An address as bytes and back, every field checked. Any thread; takes no lock.
#include "wire/address.h"

#include <cstring>
#include <type_traits>

namespace mooncake_mpi::wire {

namespace {

// In front of the sections; a checksum of 8 bytes is behind them.
struct Core {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t sections;
  std::uint32_t bytes;  // from the magic to the checksum's end
  std::uint32_t context;
  std::array<std::byte, 16> uid;
  std::array<std::byte, 16> host;
  Secret job_secret;
  std::uint64_t start_time;
  std::int32_t pid;
  std::uint32_t reserved;
};
static_assert(sizeof(Core) == 96 && std::is_trivially_copyable_v<Core>);

struct SectionHead {
  std::uint8_t lane;
  std::uint8_t reserved;
  std::uint16_t bytes;
};
static_assert(sizeof(SectionHead) == 4);

constexpr std::size_t kChecksumBytes = sizeof(std::uint64_t);
constexpr std::size_t kMostBytes = 4096;

// FNV-1a: against mix-ups, not against an attacker.
std::uint64_t checksum_of(std::span<const std::byte> entry) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte byte : entry)
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3u;
  return hash;
}

void append(std::vector<std::byte>& entry, const void* from, std::size_t bytes) {
  const auto* first = static_cast<const std::byte*>(from);
  entry.insert(entry.end(), first, first + bytes);
}

// Why `core` is no address, or nullptr.
const char* objection(const Core& core) {
  constexpr std::array<std::byte, 16> kZero{};
  if (core.reserved != 0) return "process address: a reserved field is not zero";
  if (core.uid == kZero) return "process address: no process id";
  if (core.pid <= 0) return "process address: no pid";
  return nullptr;
}

const char* read_sections(std::span<const std::byte> bytes, std::size_t count, Address& address) {
  for (; count != 0; --count) {
    SectionHead head;
    if (bytes.size() < sizeof head) return "process address: sections are missing";
    std::memcpy(&head, bytes.data(), sizeof head);
    bytes = bytes.subspan(sizeof head);
    if (head.reserved != 0) return "process address: a reserved field is not zero";
    if (head.bytes > bytes.size()) return "process address: a section is cut off";
    if (address.has(head.lane)) return "process address: two sections of one lane";
    address.add(head.lane, bytes.first(head.bytes));
    bytes = bytes.subspan(head.bytes);
  }
  return bytes.empty() ? nullptr : "process address: bytes behind the sections";
}

}  // namespace

std::string objection_to_heads(std::span<const std::byte> heads) {
  std::string others;
  std::uint16_t version = 0;
  for (std::size_t rank = 0; (rank + 1) * sizeof(Head) <= heads.size(); ++rank) {
    Head head;
    std::memcpy(&head, heads.data() + rank * sizeof head, sizeof head);
    if (head.magic != Head::kMagic) {
      return "rank " + std::to_string(rank) + " runs something else, not this library";
    }
    if (rank == 0) version = head.version;
    if (head.version == version) continue;
    if (!others.empty()) others += ", ";
    others += "rank " + std::to_string(rank) + ": " + std::to_string(head.version);
  }
  if (!others.empty()) {
    return "processes run different versions of this library (wire version of rank 0: " +
           std::to_string(version) + ", " + others + ")";
  }
  if (heads.empty() || version == kVersion) return {};
  return "the other processes run another version of this library (wire version " +
         std::to_string(version) + ")";
}

std::vector<std::byte> encode(const Address& address) {
  Core core{};
  core.magic = Head::kMagic;
  core.version = kVersion;
  core.sections = static_cast<std::uint16_t>(address.sections.size());
  core.context = address.context;
  core.uid = address.uid;
  core.host = address.host;
  core.job_secret = address.job_secret;
  core.start_time = address.start_time;
  core.pid = address.pid;
  std::size_t bytes = sizeof core + kChecksumBytes;
  for (const Address::Section& section : address.sections)
    bytes += sizeof(SectionHead) + section.bytes.size();
  core.bytes = static_cast<std::uint32_t>(bytes);
  std::vector<std::byte> entry;
  entry.reserve(bytes);
  append(entry, &core, sizeof core);
  for (const Address::Section& section : address.sections) {
    const SectionHead head{section.lane, 0, static_cast<std::uint16_t>(section.bytes.size())};
    append(entry, &head, sizeof head);
    append(entry, section.bytes.data(), section.bytes.size());
  }
  const std::uint64_t checksum = checksum_of(entry);
  append(entry, &checksum, sizeof checksum);
  return entry;
}

DecodedAddress decode_address(std::span<const std::byte> entry) {
  Core core;
  if (entry.size() < sizeof core + kChecksumBytes) {
    return {std::nullopt, "process address: wrong size"};
  }
  std::memcpy(&core, entry.data(), sizeof core);
  if (core.magic != Head::kMagic) return {std::nullopt, "process address: not from this library"};
  if (core.version != kVersion) {
    return {std::nullopt, "process address: from another version of this library"};
  }
  if (core.bytes < sizeof core + kChecksumBytes || core.bytes > entry.size() ||
      core.bytes > kMostBytes) {
    return {std::nullopt, "process address: wrong size"};
  }
  for (const std::byte behind : entry.subspan(core.bytes)) {
    if (behind != std::byte{0}) return {std::nullopt, "process address: wrong size"};
  }
  const auto checked = entry.first(core.bytes - kChecksumBytes);
  std::uint64_t checksum;
  std::memcpy(&checksum, entry.data() + checked.size(), sizeof checksum);
  if (checksum != checksum_of(checked)) return {std::nullopt, "process address: damaged"};
  if (const char* reason = objection(core)) return {std::nullopt, reason};

  Address address;
  if (const char* reason = read_sections(checked.subspan(sizeof core), core.sections, address)) {
    return {std::nullopt, reason};
  }
  address.uid = core.uid;
  address.host = core.host;
  address.pid = core.pid;
  address.start_time = core.start_time;
  address.context = core.context;
  address.job_secret = core.job_secret;
  return {address, nullptr};
}

}  // namespace mooncake_mpi::wire
