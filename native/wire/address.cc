// A process's address as bytes, and back, with every field checked. Any thread; takes no lock.
#include "wire/address.h"

#include <cstring>

#include "wire/header.h"

namespace mooncake_mpi::wire {

namespace {

constexpr std::uint32_t kMagic = 0x49504d4d;  // "MMPI" in memory
constexpr std::uint16_t kVersion = 2;
constexpr std::uint16_t kKnownFlags = kAddressCma;

struct Layout {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t flags;
  std::array<std::byte, 16> uid;
  std::array<std::byte, 16> host;
  std::int32_t pid;
  std::int32_t memfd;
  std::uint64_t start_time;
  std::uint64_t segment_bytes;
  std::uint64_t probe_address;
  std::uint64_t probe_magic;
  std::uint32_t context;
  std::uint32_t reserved_word;
  std::array<std::byte, 16> job_secret;
  std::array<RailAddress, kMaxRails> rails;
  std::array<std::byte, 16> reserved;
  std::uint64_t checksum;
};
static_assert(sizeof(Layout) == kAddressBytes);
static_assert(std::is_trivially_copyable_v<Layout>);

// FNV-1a over everything before the checksum: against mix-ups, not against an attacker.
std::uint64_t checksum_of(std::span<const std::byte> entry) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte byte : entry.first(offsetof(Layout, checksum))) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3u;
  }
  return hash;
}

// Why `layout` is no address, or nullptr.
const char* objection(const Layout& layout) {
  constexpr std::array<std::byte, 16> kZero{};
  if (layout.flags & ~kKnownFlags) return "process address: unknown flags";
  if (layout.reserved_word != 0 || layout.reserved != kZero) {
    return "process address: a reserved field is not zero";
  }
  if (layout.uid == kZero) return "process address: no process id";
  if (layout.pid <= 0) return "process address: no pid";
  if (layout.memfd < -1) return "process address: not a descriptor";
  if ((layout.memfd == -1) != (layout.segment_bytes == 0)) {
    return "process address: shared segment without size, or a size without segment";
  }
  if ((layout.flags & kAddressCma) && layout.probe_address == 0) {
    return "process address: CMA without an address to probe";
  }
  bool last = false;
  for (const RailAddress& rail : layout.rails) {
    if (const char* reason = objection(rail)) return reason;
    if (last && rail.queue_pair != 0) return "process address: a rail behind an empty one";
    last = rail.queue_pair == 0;
  }
  if (layout.rails[0].queue_pair != 0 && layout.job_secret == kZero) {
    return "process address: rails without a secret";
  }
  return nullptr;
}

}  // namespace

std::array<std::byte, kAddressBytes> encode(const Address& address) {
  Layout layout{};
  layout.magic = kMagic;
  layout.version = kVersion;
  layout.flags = address.flags;
  layout.uid = address.uid;
  layout.host = address.host;
  layout.pid = address.pid;
  layout.memfd = address.memfd;
  layout.start_time = address.start_time;
  layout.segment_bytes = address.segment_bytes;
  layout.probe_address = address.probe_address;
  layout.probe_magic = address.probe_magic;
  layout.context = address.context;
  layout.job_secret = address.job_secret;
  layout.rails = address.rails;

  std::array<std::byte, kAddressBytes> entry;
  std::memcpy(entry.data(), &layout, sizeof(layout));
  layout.checksum = checksum_of(entry);
  std::memcpy(entry.data(), &layout, sizeof(layout));
  return entry;
}

DecodedAddress decode_address(std::span<const std::byte> entry) {
  if (entry.size() != kAddressBytes) return {std::nullopt, "process address: wrong size"};
  Layout layout;
  std::memcpy(&layout, entry.data(), sizeof(layout));
  if (layout.magic != kMagic) return {std::nullopt, "process address: not from this library"};
  if (layout.version != kVersion) {
    return {std::nullopt, "process address: from another version of this library"};
  }
  if (layout.checksum != checksum_of(entry)) return {std::nullopt, "process address: damaged"};
  if (const char* reason = objection(layout)) return {std::nullopt, reason};

  Address address;
  address.uid = layout.uid;
  address.host = layout.host;
  address.pid = layout.pid;
  address.memfd = layout.memfd;
  address.start_time = layout.start_time;
  address.segment_bytes = layout.segment_bytes;
  address.probe_address = layout.probe_address;
  address.probe_magic = layout.probe_magic;
  address.context = layout.context;
  address.flags = layout.flags;
  address.job_secret = layout.job_secret;
  address.rails = layout.rails;
  return {address, nullptr};
}

}  // namespace mooncake_mpi::wire
