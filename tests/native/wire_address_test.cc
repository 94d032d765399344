// A process's address survives the trip; what is damaged or foreign is refused with a reason. One
// thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>

#include "wire/address.h"

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
  address.memfd = 17;
  address.start_time = 0x0123456789abcdef;
  address.segment_bytes = std::uint64_t{1} << 24;
  address.probe_address = 0x7fff12345678;
  address.probe_magic = 0xfeedfacecafebeef;
  address.context = 0x80000001;
  address.flags = kAddressCma;
  address.job_secret = bytes_from(90);
  address.rails[0] = {.gid = bytes_from(120),
                      .queue_pair = 0x123456,
                      .queue_key = 0x11111111,
                      .lid = 7,
                      .mtu_bytes = 4096,
                      .global = 1};
  address.rails[1] = {.queue_pair = 5, .queue_key = 9, .lid = 8, .mtu_bytes = 256};
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

TEST(WireAddress, WithoutSharedSegmentOrCmaIsValid) {
  Address address = sample();
  address.memfd = -1;
  address.segment_bytes = 0;
  address.flags = 0;
  address.probe_address = 0;
  const DecodedAddress decoded = decode_address(encode(address));
  ASSERT_TRUE(decoded.address.has_value()) << decoded.reason;
  EXPECT_EQ(*decoded.address, address);
}

TEST(WireAddress, RailsThatContradictThemselvesAreRefused) {
  using Damage = std::function<void(Address&)>;
  const Damage damages[] = {
      [](Address& a) { a.rails[0].queue_pair = 1u << 24; },
      [](Address& a) { a.rails[0].mtu_bytes = 1000; },
      [](Address& a) { a.rails[0].global = 2; },
      [](Address& a) { a.rails[0].gid = {}; },
      [](Address& a) { a.rails[0].reserved[1] = 1; },
      [](Address& a) { a.rails[1].lid = 0; },
      [](Address& a) { a.rails[0] = {}; },  // a rail behind an empty one
      [](Address& a) { a.rails[1].queue_pair = 0; },
      [](Address& a) { a.job_secret = {}; },
  };
  for (std::size_t i = 0; i < std::size(damages); ++i) {
    Address address = sample();
    damages[i](address);
    EXPECT_FALSE(decode_address(encode(address)).address.has_value()) << "damage " << i;
  }
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
  std::array<std::byte, kAddressBytes + 1> longer{};
  std::copy(good.begin(), good.end(), longer.begin());
  EXPECT_NE(decode_address(longer).reason, nullptr);
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
      {"flags", [](Address& address) { address.flags = 0x8000; }},
      {"process id", [](Address& address) { address.uid = {}; }},
      {"pid", [](Address& address) { address.pid = 0; }},
      {"pid", [](Address& address) { address.pid = -4; }},
      {"descriptor", [](Address& address) { address.memfd = -2; }},
      {"segment", [](Address& address) { address.memfd = -1; }},
      {"segment", [](Address& address) { address.segment_bytes = 0; }},
      {"probe", [](Address& address) { address.probe_address = 0; }},
  };
  for (const auto& [word, change] : changes) {
    Address address = sample();
    change(address);
    EXPECT_NE(reason_of(address).find(word), std::string::npos) << word;
  }
}

}  // namespace
}  // namespace mooncake_mpi::wire
