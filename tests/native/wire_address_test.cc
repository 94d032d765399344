// A process's address survives the trip; what is damaged or foreign is refused with a reason. One
// thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>

#include "wire/address.h"
#include "wire/shm_address.h"
#include "wire/verbs.h"

namespace mooncake_mpi::wire {
namespace {

std::array<std::byte, 16> bytes_from(int first) {
  std::array<std::byte, 16> bytes;
  for (int i = 0; i < 16; ++i)
    bytes[i] = static_cast<std::byte>(first + i);
  return bytes;
}

Address sample() {
  Address address;
  address.uid = bytes_from(1);
  address.host = bytes_from(40);
  address.pid = 12345;
  address.start_time = 0x0123456789abcdef;
  address.context = 0x80000001;
  std::ranges::copy(bytes_from(90), address.job_secret.begin());
  std::ranges::copy(bytes_from(70), address.job_secret.begin() + 16);
  address.add(3, bytes_from(120));
  const auto more = bytes_from(7);
  address.add(9, std::span(more).first(5));
  return address;
}

std::string reason_of(const Address& address) {
  const DecodedAddress decoded = decode_address(encode(address));
  EXPECT_EQ(decoded.address.has_value(), decoded.reason == nullptr);
  return decoded.reason == nullptr ? "" : decoded.reason;
}

TEST(WireAddress, SurvivesTheTrip) {
  const DecodedAddress decoded = decode_address(encode(sample()));
  ASSERT_TRUE(decoded.address.has_value()) << decoded.reason;
  EXPECT_EQ(decoded.reason, nullptr);
  EXPECT_EQ(*decoded.address, sample());
}

TEST(WireAddress, SectionsAreFoundByTheirLane) {
  const DecodedAddress decoded = decode_address(encode(sample()));
  ASSERT_TRUE(decoded.address.has_value()) << decoded.reason;
  EXPECT_EQ(decoded.address->section(3).size(), 16u);
  EXPECT_EQ(decoded.address->section(9).size(), 5u);
  EXPECT_TRUE(decoded.address->section(4).empty());
}

TEST(WireAddress, WithoutAnySectionIsValid) {
  Address address = sample();
  address.sections.clear();
  EXPECT_EQ(reason_of(address), "");
}

TEST(WireAddress, ZerosBehindItAreNotPartOfIt) {
  auto entry = encode(sample());
  entry.resize(entry.size() + 40);
  EXPECT_EQ(*decode_address(entry).address, sample());
  entry.back() = std::byte{1};
  EXPECT_NE(decode_address(entry).reason, nullptr);
}

TEST(WireRails, ThatContradictThemselvesAreRefused) {
  const auto decodes = [](const Rails& rails) {
    return decode_rails(std::as_bytes(std::span(rails))).has_value();
  };
  Rails good{};
  good[0] = {.gid = bytes_from(120),
             .queue_pair = 0x123456,
             .queue_key = 0x11111111,
             .lid = 7,
             .mtu_bytes = 4096,
             .global = 1};
  good[1] = {.queue_pair = 5, .queue_key = 9, .lid = 8, .mtu_bytes = 256};
  EXPECT_TRUE(decodes(good));
  using Damage = std::function<void(Rails&)>;
  const Damage damages[] = {
      [](Rails& rails) { rails[0].queue_pair = 1u << 24; },
      [](Rails& rails) { rails[0].mtu_bytes = 1000; },
      [](Rails& rails) { rails[0].global = 2; },
      [](Rails& rails) { rails[0].gid = {}; },
      [](Rails& rails) { rails[0].reserved[1] = 1; },
      [](Rails& rails) { rails[1].lid = 0; },
      [](Rails& rails) { rails[0] = {}; },  // a rail behind an empty one
      [](Rails& rails) { rails[1].queue_pair = 0; },
  };
  for (std::size_t i = 0; i < std::size(damages); ++i) {
    Rails rails = good;
    damages[i](rails);
    EXPECT_FALSE(decodes(rails)) << "damage " << i;
  }
}

TEST(WireShmAddress, WithoutAFieldIsNone) {
  const ShmAddress good{.descriptor = 3, .segment_bytes = 1, .probe_address = 2, .probe_magic = 3};
  const auto decodes = [](ShmAddress address, auto&& damage) {
    damage(address);
    return decode_shm_address(std::as_bytes(std::span(&address, 1))).has_value();
  };
  EXPECT_TRUE(decodes(good, [](ShmAddress&) {}));
  EXPECT_FALSE(decodes(good, [](ShmAddress& address) { address.descriptor = -1; }));
  EXPECT_FALSE(decodes(good, [](ShmAddress& address) { address.segment_bytes = 0; }));
  EXPECT_FALSE(decodes(good, [](ShmAddress& address) { address.probe_address = 0; }));
  EXPECT_FALSE(decodes(good, [](ShmAddress& address) { address.reserved = 1; }));
}

TEST(WireHeads, OfOneVersionAllowToGoOn) {
  const std::array<Head, 3> heads{};
  EXPECT_EQ(objection_to_heads(std::as_bytes(std::span(heads))), "");
}

TEST(WireHeads, OfDifferentVersionsNameThem) {
  std::array<Head, 3> heads{};
  heads[1].version = kVersion + 1;
  const std::string objection = objection_to_heads(std::as_bytes(std::span(heads)));
  EXPECT_NE(objection.find("rank 1: " + std::to_string(kVersion + 1)), std::string::npos)
      << objection;
  // To the process of the other version all heads may look alike but for its own.
  for (Head& head : heads)
    head.version = kVersion + 1;
  EXPECT_NE(objection_to_heads(std::as_bytes(std::span(heads))), "");
  heads = {};
  heads[2].magic = 5;
  EXPECT_NE(objection_to_heads(std::as_bytes(std::span(heads))).find("rank 2"), std::string::npos);
}

TEST(WireAddress, EveryChangedBitIsNoticed) {
  const auto good = encode(sample());
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const DecodedAddress decoded = decode_address(bad);
    ASSERT_FALSE(decoded.address.has_value()) << "bit " << bit;
    ASSERT_NE(decoded.reason, nullptr);
  }
}

TEST(WireAddress, AnotherSizeIsRefused) {
  const auto good = encode(sample());
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes) {
    ASSERT_NE(decode_address(std::span(good).first(bytes)).reason, nullptr);
  }
}

TEST(WireAddress, ForeignBytesAndOtherVersionsAreToldApart) {
  auto entry = encode(sample());
  entry[0] ^= std::byte{1};
  EXPECT_NE(std::string(decode_address(entry).reason).find("library"), std::string::npos);
  entry = encode(sample());
  entry[4] ^= std::byte{1};
  EXPECT_NE(std::string(decode_address(entry).reason).find("version"), std::string::npos);
}

TEST(WireAddress, ContradictoryFieldsAreRefusedThoughTheChecksumFits) {
  const std::pair<const char*, std::function<void(Address&)>> changes[] = {
      {"process id", [](Address& address) { address.uid = {}; }},
      {"pid", [](Address& address) { address.pid = 0; }},
      {"pid", [](Address& address) { address.pid = -4; }},
      {"two sections", [](Address& address) { address.add(9, bytes_from(1)); }},
  };
  for (const auto& [word, change] : changes) {
    Address address = sample();
    change(address);
    EXPECT_NE(reason_of(address).find(word), std::string::npos) << word;
  }
}

}  // namespace
}  // namespace mooncake_mpi::wire
