// Millions of random and mutated buffers: none crashes a decoder, none is accepted out of bounds.
// One thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "effort.h"
#include "wire_decode_all.h"

namespace mooncake_mpi::wire {
namespace {

constexpr int kBuffers = effort(250'000);  // of each sort

class RandomBytes : public ::testing::Test {
 protected:
  std::uint32_t draw(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  void fill(std::span<std::byte> bytes) {
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(draw(256));
  }

  // Some other bytes, and now and then another length.
  void mutate(std::vector<std::byte>& bytes) {
    for (std::uint32_t change = 0; change <= draw(3); ++change) {
      bytes[draw(static_cast<std::uint32_t>(bytes.size()))] = static_cast<std::byte>(draw(256));
    }
    if (draw(4) == 0) bytes.resize(draw(static_cast<std::uint32_t>(bytes.size()) + 8));
  }

  // On the heap and of exactly this size, so that a sanitizer sees the first byte too far.
  static bool decode_exactly(std::span<const std::byte> bytes) {
    return decode_packet(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }

  // A packet as a peer would send it, of a random kind.
  std::vector<std::byte> packet() {
    constexpr std::uint32_t kFixed[] = {0,  0,  8, sizeof(Rts),  sizeof(Cts),
                                        16, 16, 8, sizeof(Note), 8};
    const auto kind = static_cast<Kind>(1 + draw(9));
    const bool bytes_follow =
        kind == Kind::kEager || kind == Kind::kEagerSync || kind == Kind::kData;
    const bool message = kind <= Kind::kRts;
    const std::uint32_t more = bytes_follow ? draw(64) : 0;
    const std::uint32_t payload_bytes = kFixed[static_cast<std::size_t>(kind)] + more;
    const Header header =
        message
            ? message_header(kind, draw(1000), static_cast<std::int32_t>(draw(8)),
                             static_cast<std::int32_t>(draw(1000)), payload_bytes, more)
            : control_header(kind, draw(1000), static_cast<std::int32_t>(draw(8)), payload_bytes);
    std::vector<std::byte> bytes(sizeof(Header) + payload_bytes, std::byte{1});
    std::memcpy(bytes.data(), &header, sizeof(Header));
    if (kind == Kind::kFin) std::fill(bytes.end() - 4, bytes.end(), std::byte{0});
    if (kind == Kind::kNote) std::fill(bytes.end() - 7, bytes.end(), std::byte{0});
    if (kind == Kind::kCts) {  // from the start of the message, all of it
      std::fill_n(bytes.begin() + sizeof(Header) + 16, 8, std::byte{0});
    }
    return bytes;
  }

  // The same behind a frame, an RTS with or without keys.
  std::vector<std::byte> framed() {
    std::vector<std::byte> inner = packet();
    if (static_cast<Kind>(inner[0]) == Kind::kRts && draw(2) == 0) {
      RemoteKeys keys;
      keys.rails = 1 + draw((1u << kMaxRails) - 1);
      Header header;
      std::memcpy(&header, inner.data(), sizeof header);
      Offers offers;
      offers.add(3, std::as_bytes(std::span(&keys, 1)));
      header.payload_bytes += static_cast<std::uint32_t>(offers.bytes().size());
      std::memcpy(inner.data(), &header, sizeof header);
      inner.insert(inner.end(), offers.bytes().begin(), offers.bytes().end());
    }
    Frame frame{.sequence = draw(100), .consumed = draw(100), .credit = draw(1 << 20)};
    const auto raw = std::as_bytes(std::span(&frame, 1));
    std::vector<std::byte> bytes(raw.begin(), raw.end());
    bytes.insert(bytes.end(), inner.begin(), inner.end());
    return bytes;
  }

  Hello hello() {
    Hello hello;
    hello.magic = kHelloMagic;
    hello.version = kVersion;
    hello.paths = static_cast<std::uint16_t>(1 + draw(kMaxRails));
    fill(hello.from);
    hello.to = kTestProcess;
    hello.credits = 1 + draw(64);
    for (PathOffer& offer : hello.offers)
      offer = {draw(9), draw(1 << 24), draw(1 << 24), draw(9), draw(2)};
    prove(hello, kTestKey);
    return hello;
  }

  std::mt19937 random_{20240607};
};

TEST_F(RandomBytes, WellFormedPacketsAreAccepted) {
  for (int i = 0; i < kBuffers; ++i)
    ASSERT_TRUE(decode_exactly(packet()));
}

TEST_F(RandomBytes, RandomPacketsNeverCrash) {
  for (int i = 0; i < kBuffers; ++i) {
    std::vector<std::byte> bytes(draw(160));
    fill(bytes);
    if (!bytes.empty()) bytes[0] = static_cast<std::byte>(draw(12));  // past the kind now and then
    decode_exactly(bytes);
  }
}

TEST_F(RandomBytes, MutatedPacketsNeverCrash) {
  int accepted = 0;
  for (int i = 0; i < kBuffers; ++i) {
    std::vector<std::byte> bytes = packet();
    mutate(bytes);
    accepted += decode_exactly(bytes);
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kBuffers);
}

TEST_F(RandomBytes, FramedPacketsAreAcceptedWholeAndNeverCrash) {
  int accepted = 0;
  for (int i = 0; i < kBuffers; ++i) {
    std::vector<std::byte> bytes = framed();
    ASSERT_TRUE(decode_framed(bytes));
    mutate(bytes);
    accepted += decode_framed(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kBuffers);
}

TEST_F(RandomBytes, WhatComesOverAConnectionIsAcceptedWholeAndNeverCrashes) {
  int accepted = 0;
  const auto copy = [](const auto& layout) {
    const auto raw = raw_bytes(layout);
    return std::vector<std::byte>(raw.begin(), raw.end());
  };
  for (int i = 0; i < kBuffers; ++i) {
    const auto word = static_cast<std::uint32_t>(i);
    std::vector<std::byte> bytes;
    if (i % 4 == 0) bytes = copy(TcpClaim{.stream = word % 5});
    if (i % 4 == 1) bytes = copy(TcpVerdict{.granted = word / 4 % 3});
    if (i % 4 == 2) bytes = copy(TcpPiece{.ticket = word + 1, .offset = word, .bytes = word});
    if (i % 4 == 3) {
      bytes = copy(TcpFrame{.credit = word});
      const std::vector<std::byte> inner = packet();
      bytes.insert(bytes.end(), inner.begin(), inner.end());
    }
    ASSERT_TRUE(decode_connection(bytes)) << i;
    mutate(bytes);
    accepted += decode_connection(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kBuffers);
}

TEST_F(RandomBytes, WireUpDatagramsAreAcceptedWholeAndNeverCrash) {
  int accepted = 0;
  constexpr int kDatagrams = kBuffers / 10;  // each is proved, which takes its time
  for (int i = 0; i < kDatagrams; ++i) {
    const Hello good = hello();
    const auto raw = std::as_bytes(std::span(&good, 1));
    ASSERT_TRUE(decode_datagram(raw));
    std::vector<std::byte> bytes(raw.begin(), raw.end());
    mutate(bytes);
    const bool same = std::ranges::equal(bytes, raw);
    ASSERT_EQ(decode_datagram(std::vector<std::byte>(bytes.begin(), bytes.end())), same);
    // By one who has the key.
    Hello bad = good;
    std::memcpy(&bad, bytes.data(), std::min(bytes.size(), sizeof bad));
    prove(bad, kTestKey);
    accepted += decode_datagram(std::as_bytes(std::span(&bad, 1)));
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kDatagrams);
}

TEST_F(RandomBytes, RandomAndMutatedAddressesAreRefused) {
  Address address;
  address.pid = 1;
  fill(address.uid);
  address.add(3, std::vector<std::byte>(128));
  const auto good = encode(address);
  ASSERT_TRUE(decode_entry(good));
  for (int i = 0; i < kBuffers; ++i) {
    std::vector<std::byte> bytes(good.begin(), good.end());
    if (i % 2 == 0) {
      fill(bytes);
    } else {
      bytes[draw(static_cast<std::uint32_t>(bytes.size()))] ^=
          static_cast<std::byte>(1 + draw(255));
    }
    ASSERT_FALSE(decode_entry(bytes));
  }
}

}  // namespace
}  // namespace mooncake_mpi::wire
