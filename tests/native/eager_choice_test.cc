// Whether messages come at once or are announced, by what both have cost. One thread.
#include "protocol/eager_choice.h"

#include <gtest/gtest.h>

#include <map>

namespace mooncake_mpi::testing {
namespace {

using Way = EagerChoice::Way;

constexpr std::uint64_t kBytes = 64 * 1024;

class EagerOrAnnounced : public ::testing::Test {
 protected:
  // One after the other, and a pause after each of `every`: how many took each way. What is advised
  // reaches the sender `lag` messages later.
  std::map<Way, int> go(int messages, std::uint64_t eager_ns, std::uint64_t announced_ns,
                        int lag = 0, int every = 0, std::uint64_t bytes = kBytes) {
    std::map<Way, int> taken;
    std::uint32_t heard = choice_.advice();
    for (int i = 0; i < messages; ++i) {
      if (lag == 0 || i % lag == 0) heard = choice_.advice();
      const bool announces = EagerChoice::announces(heard, bytes);
      now_ += announces ? announced_ns : eager_ns;
      if (every != 0 && i % every == 0) now_ += 100'000'000;
      const Way way = announces ? EagerChoice::kAnnounced : EagerChoice::kEager;
      choice_.on_whole(way, bytes, now_);
      ++taken[way];
    }
    return taken;
  }

  EagerChoice choice_;
  std::uint64_t now_ = 1;
};

TEST_F(EagerOrAnnounced, TheFasterOneIsTakenAndTheOtherRarelyTried) {
  EXPECT_GT(go(200, 8'000, 3'000)[EagerChoice::kAnnounced], 130);
  EXPECT_GT(go(10'000, 8'000, 3'000)[EagerChoice::kAnnounced], 9'800);
}

TEST_F(EagerOrAnnounced, AtOnceIsKeptWhereItIsFaster) {
  EXPECT_GT(go(10'000, 3'000, 8'000)[EagerChoice::kEager], 9'800);
}

TEST_F(EagerOrAnnounced, WhatIsTriedIsNeverForgotten) {
  go(10'000, 3'000, 8'000);
  EXPECT_LT(go(10'000, 8'000, 3'000)[EagerChoice::kEager], 5'000) << "it is the slower one now";
  EXPECT_GT(go(10'000, 8'000, 3'000)[EagerChoice::kAnnounced], 9'700);
}

TEST_F(EagerOrAnnounced, InWindowsAdviceComesLater) {
  go(2'000, 8'000, 3'000, 64);
  EXPECT_GT(go(20'000, 8'000, 3'000, 64)[EagerChoice::kAnnounced], 18'500);
}

TEST_F(EagerOrAnnounced, CopiesThatAreHeardOfTogetherAreTimedTogether) {
  int announced = 0;
  for (int burst = 0; burst < 1'000; ++burst) {
    const bool announces = EagerChoice::announces(choice_.advice(), kBytes);
    announced += announces;
    for (int i = 0; i < 16; ++i) {
      now_ += announces ? (i == 0 ? 16 * 3'500 : 50) : 3'000;
      choice_.on_whole(announces ? EagerChoice::kAnnounced : EagerChoice::kEager, kBytes, now_);
    }
  }
  EXPECT_LT(announced, 100);
}

TEST_F(EagerOrAnnounced, PausesChangeNothing) {
  go(2'000, 8'000, 3'000);
  EXPECT_GT(go(2'000, 8'000, 3'000, 0, 100)[EagerChoice::kAnnounced], 1'900);
}

TEST_F(EagerOrAnnounced, EachLengthHasItsOwn) {
  go(2'000, 8'000, 3'000);
  go(2'000, 2'000, 3'000, 0, 0, 16 * 1024);
  EXPECT_TRUE(EagerChoice::announces(choice_.advice(), kBytes));
  EXPECT_FALSE(EagerChoice::announces(choice_.advice(), 16 * 1024));
}

TEST_F(EagerOrAnnounced, NobodyWaitsForAReceiverThatIsLate) {
  go(2'000, 8'000, 3'000);
  for (int i = 0; i < 16; ++i)
    choice_.on_early(kBytes);
  EXPECT_FALSE(EagerChoice::announces(choice_.advice(), kBytes));
  EXPECT_GT(go(2'000, 8'000, 3'000)[EagerChoice::kAnnounced], 1'500) << "and is in time again";
}

}  // namespace
}  // namespace mooncake_mpi::testing
