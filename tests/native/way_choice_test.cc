// Which way messages take, by what both have cost. One thread.
#include "transport/copy/way_choice.h"

#include <gtest/gtest.h>

#include <map>

namespace mooncake_mpi::testing {
namespace {

using Way = WayChoice::Way;

constexpr std::uint64_t kBytes = 256 * 1024;

class Ways : public ::testing::Test {
 protected:
  // One after the other: how many took each way.
  std::map<Way, int> go(int messages, std::uint64_t stream_ns, std::uint64_t kernel_ns,
                        std::uint64_t bytes = kBytes) {
    std::map<Way, int> taken;
    for (int i = 0; i < messages; ++i) {
      const Way way = choice_.begin(bytes, true, now_, 0, 0);
      now_ += way == WayChoice::kStream ? stream_ns : kernel_ns;
      choice_.end(now_, 0, false);
      ++taken[way];
    }
    return taken;
  }

  // Windows of messages both ways: streams are all under way at once, the kernel copies one at a
  // time, and the peer's copies are heard of between those. Often the peer copies and could not
  // stream. How many of a hundred messages were streamed.
  int go_both_ways(int windows, std::uint64_t stream_ns, std::uint64_t kernel_ns) {
    constexpr int kWindow = 64;
    int streamed = 0;
    for (int window = 0; window < windows; ++window) {
      Way way = WayChoice::kStream;
      for (int left = kWindow; left > 0;) {
        const bool busy = way == WayChoice::kKernel && left % 2 == 0;
        way = choice_.begin(kBytes, !busy, now_, sent_, 0);
        if (way == WayChoice::kKernel) {
          now_ += kernel_ns;
          choice_.end(now_, sent_, --left != 0);
          sent_ += kBytes;
          continue;
        }
        for (int i = 1; i < left; ++i)
          choice_.begin(kBytes, true, now_, sent_, 0);
        now_ += static_cast<std::uint64_t>(left) * stream_ns;
        sent_ += static_cast<std::uint64_t>(left) * kBytes;
        streamed += left;
        for (; left > 0; --left)
          choice_.end(now_, sent_, false);
      }
    }
    return streamed * 100 / (windows * kWindow);
  }

  WayChoice choice_;
  std::uint64_t now_ = 1;
  std::uint64_t sent_ = 0;
};

TEST_F(Ways, TheFasterOneIsTakenAndTheOtherRarelyTried) {
  EXPECT_GT(go(2000, 5'000, 12'000)[WayChoice::kStream], 1950);
  EXPECT_GT(go(2000, 5'000, 12'000)[WayChoice::kStream], 1960);
}

TEST_F(Ways, WhatIsTriedIsNeverForgotten) {
  go(2000, 5'000, 12'000);
  EXPECT_GT(go(2000, 5'000, 12'000)[WayChoice::kKernel], 5);
  EXPECT_LT(go(2000, 12'000, 5'000)[WayChoice::kStream], 600) << "the other is the faster one now";
  EXPECT_GT(go(2000, 12'000, 5'000)[WayChoice::kKernel], 1970);
}

TEST_F(Ways, AStreamThatIsHardlyFasterIsNotTaken) {
  go(500, 11'000, 12'000);
  EXPECT_GT(go(500, 11'000, 12'000)[WayChoice::kKernel], 440);
}

TEST_F(Ways, EachLengthHasItsOwn) {
  go(500, 5'000, 12'000, 100'000);
  go(500, 50'000, 40'000, 1'000'000);
  EXPECT_GT(go(500, 5'000, 12'000, 100'000)[WayChoice::kStream], 480);
  EXPECT_GT(go(500, 50'000, 40'000, 1'000'000)[WayChoice::kKernel], 480);
}

TEST_F(Ways, OneInterruptionChangesNothing) {
  go(500, 9'000, 12'000);
  EXPECT_EQ(choice_.begin(kBytes, true, now_, 0, 0), WayChoice::kStream);
  now_ += 50'000'000;
  choice_.end(now_, 0, false);
  EXPECT_GT(go(200, 9'000, 12'000)[WayChoice::kStream], 150);
}

TEST_F(Ways, MessagesUnderWayTogetherTakeTheSame) {
  go(500, 12'000, 5'000);
  for (int window = 0; window < 300; ++window) {
    const Way first = choice_.begin(kBytes, true, now_, 0, 0);
    for (int i = 1; i < 16; ++i)
      EXPECT_EQ(choice_.begin(kBytes, true, now_, 0, 0), first);
    now_ += 16 * (first == WayChoice::kStream ? 4'000 : 8'000);
    for (int i = 0; i < 16; ++i)
      choice_.end(now_, 0, false);
  }
  EXPECT_EQ(choice_.begin(kBytes, true, now_, 0, 0), WayChoice::kStream)
      << "in windows it is the faster";
}

TEST_F(Ways, OneWindowOfManyMessagesIsTrialEnough) {
  int slow = 0;
  for (int window = 0; window < 100; ++window) {
    const Way way = choice_.begin(kBytes, true, now_, 0, 0);
    for (int i = 1; i < 16; ++i)
      choice_.begin(kBytes, true, now_, 0, 0);
    slow += way == WayChoice::kKernel;
    now_ += way == WayChoice::kKernel ? 200'000 : 100'000;
    for (int i = 0; i < 16; ++i)
      choice_.end(now_, 0, false);
  }
  EXPECT_LE(slow, 5);
}

TEST_F(Ways, TheTwoEndsTakeTheSameWhileMessagesGoBothWays) {
  WayChoice follower;
  int apart = 0;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const Way led = choice_.begin(kBytes, true, now_, i * kBytes, 0);
    const Way followed = follower.begin(kBytes, true, now_, i * kBytes, choice_.says());
    apart += led != followed;
    // together the kernel is the faster one, while one alone starves the other's streams
    now_ += led != followed ? 20'000 : led == WayChoice::kKernel ? 8'000 : 12'000;
    choice_.end(now_, i * kBytes + kBytes, false);
    follower.end(now_, i * kBytes + kBytes, false);
  }
  EXPECT_EQ(apart, 0);
  EXPECT_EQ(choice_.says() & 1, WayChoice::kKernel);
  int streams = 0;
  for (int i = 0; i < 2000; ++i) {  // the leader is silent now, and a stream the faster one
    const Way way = follower.begin(kBytes, true, now_, 0, choice_.says());
    streams += way == WayChoice::kStream;
    now_ += way == WayChoice::kStream ? 1'000 : 8'000;
    follower.end(now_, 0, false);
  }
  EXPECT_GT(streams, 1500);
}

TEST_F(Ways, BothWaysTheKernelIsTimedWithThePeersCopies) {
  EXPECT_LT(go_both_ways(300, 25'000, 18'000), 10) << "as between distant cores";
  EXPECT_LT(go_both_ways(300, 25'000, 18'000), 5);
  go_both_ways(300, 10'000, 18'000);
  EXPECT_GT(go_both_ways(300, 10'000, 18'000), 95) << "as between cores that share a cache";
}

TEST_F(Ways, AFirstMessageWithoutAChoiceDoesNotChooseForItsWindow) {
  int streams = 0;
  for (int window = 0; window < 200; ++window) {
    EXPECT_EQ(choice_.begin(kBytes, false, now_, 0, 0), WayChoice::kKernel);
    const Way way = choice_.begin(kBytes, true, now_, 0, 0);
    for (int i = 2; i < 16; ++i)
      choice_.begin(kBytes, true, now_, 0, 0);
    streams += way == WayChoice::kStream;
    now_ += way == WayChoice::kStream ? 100'000 : 200'000;
    for (int i = 0; i < 16; ++i)
      choice_.end(now_, 0, false);
  }
  EXPECT_GT(streams, 150);
}

TEST_F(Ways, WhereNobodyStreamsNothingIsLearnt) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(choice_.begin(kBytes, false, now_, 0, 0), WayChoice::kKernel);
    now_ += 1;
    choice_.end(now_, 0, false);
  }
  EXPECT_GT(go(500, 5'000, 12'000)[WayChoice::kStream], 480);
}

TEST_F(Ways, AnEndTooManyOrTooFewDoesNoHarm) {
  choice_.end(now_, 0, false);
  for (int i = 0; i < 300; ++i)
    choice_.begin(kBytes, true, now_, 0, 0);  // their ends are never heard of
  EXPECT_GT(go(3000, 5'000, 12'000)[WayChoice::kStream], 2000);
}

}  // namespace
}  // namespace mooncake_mpi::testing
