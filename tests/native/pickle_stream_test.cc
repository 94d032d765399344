// Buffers are put into pickle streams and found again, and no bytes harm whoever looks for them.
#include "wire/pickle_stream.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "effort.h"
#include "wire_decode_all.h"

namespace mooncake_mpi::wire {
namespace {

using std::string_literals::operator""s;

// [buffer, read-only buffer, 5], pickled with the buffers beside it.
const std::string kPickled =
    "\x80\x05\x95\x0b\0\0\0\0\0\0\0]\x94(\x97\x97\x98K\x05\x94"
    "e."s;

std::string whole(const std::vector<std::string>& glue, const std::vector<std::string>& buffers) {
  std::string message = glue[0];
  for (std::size_t i = 0; i < buffers.size(); ++i)
    message += buffers[i] + glue[i + 1];
  return message;
}

TEST(PickleStream, BuffersAreFoundAgainWhereTheyWerePut) {
  const std::vector<std::string> buffers{std::string(70'000, 'a'), std::string(80'000, 'b')};
  const auto glue = put_buffers_in(kPickled, std::vector<std::uint64_t>{70'000, 80'000});
  ASSERT_TRUE(glue);
  const std::string message = whole(*glue, buffers);
  const auto found = find_buffers(message);
  ASSERT_EQ(found.size(), 2);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(message.substr(found[i].data, found[i].bytes), buffers[i]);
    EXPECT_EQ(found[i].data % 8, 0);
  }
  EXPECT_FALSE(found[0].read_only);
  EXPECT_TRUE(found[1].read_only);
  // The frame's header alone is gone: its opcodes do not stay together in the message.
  EXPECT_EQ(take_buffers_out(message, found), kPickled.substr(0, 2) + kPickled.substr(11));
}

TEST(PickleStream, WhatDoesNotBelongTogetherIsRefused) {
  using Sizes = std::vector<std::uint64_t>;
  EXPECT_FALSE(put_buffers_in(kPickled, Sizes{70'000}));
  EXPECT_FALSE(put_buffers_in(kPickled, Sizes{1, 2, 3}));
  EXPECT_FALSE(put_buffers_in(kPickled + "x", Sizes{1, 2}));
  EXPECT_FALSE(put_buffers_in(kPickled.substr(0, kPickled.size() - 1), Sizes{1, 2}));
  EXPECT_FALSE(put_buffers_in("", Sizes{}));
  EXPECT_FALSE(put_buffers_in("no pickle.", Sizes{}));
}

TEST(PickleStream, DamagedMessagesAreLookedAtWithoutHarm) {
  const auto glue = put_buffers_in(kPickled, std::vector<std::uint64_t>{70, 80});
  const std::string message =
      glue ? whole(*glue, {std::string(70, 'a'), std::string(80, 'b')}) : kPickled;
  std::mt19937 random(7);
  auto draw = [&](std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
  };
  int accepted = 0;
  for (int i = 0; i < effort(200'000); ++i) {
    std::string damaged = i % 2 == 0 ? message : kPickled;
    for (std::size_t change = draw(4); change > 0; --change)
      damaged[draw(damaged.size())] = static_cast<char>(draw(256));
    if (draw(4) == 0) damaged.resize(draw(damaged.size() + 8));
    // On the heap and of exactly this size, so that a sanitizer sees the first byte too far.
    const std::vector<std::byte> bytes(
        reinterpret_cast<const std::byte*>(damaged.data()),
        reinterpret_cast<const std::byte*>(damaged.data()) + damaged.size());
    accepted += decode_pickle(bytes);
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace mooncake_mpi::wire
