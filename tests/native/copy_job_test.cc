// Chunks of a shared copy are claimed once each, by whoever comes, and only in their own life.
#include "transport/copy/copy_job.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace mooncake_mpi {
namespace {

constexpr auto kFront = CopyJob::End::kFront;
constexpr auto kBack = CopyJob::End::kBack;

TEST(CopyJob, HandsOutEveryChunkOnceFromBothEndsAndThenNone) {
  CopyJob job;
  job.open(1);
  EXPECT_EQ(job.claim(1, 5, kFront).first, 0u);
  EXPECT_EQ(job.claim(1, 5, kBack).first, 4u);
  EXPECT_EQ(job.claim(1, 5, kBack).first, 3u);
  EXPECT_EQ(job.claim(1, 5, kFront).first, 1u);
  EXPECT_EQ(job.claim(1, 5, kFront).first, 2u);
  EXPECT_EQ(job.claim(1, 5, kFront).count, 0u);
  EXPECT_EQ(job.claim(1, 5, kBack).count, 0u);
  EXPECT_FALSE(job.finish(4, 5));
  EXPECT_TRUE(job.finish(1, 5));
}

TEST(CopyJob, TheRestIsWhatLiesBetweenBothEnds) {
  CopyJob job;
  job.open(1);
  EXPECT_EQ(job.claim(1, 10, kFront).count, 1u);
  EXPECT_EQ(job.claim(1, 10, kBack).count, 1u);
  const CopyJob::Claim rest = job.claim_rest(1, 10);
  EXPECT_EQ(rest.first, 1u);
  EXPECT_EQ(rest.count, 8u);
  EXPECT_EQ(job.claim_rest(1, 10).count, 0u);
  EXPECT_EQ(job.claim(1, 10, kBack).count, 0u);
}

TEST(CopyJob, TheMostChunksThatThereMayBeAreCountedAtEitherEnd) {
  CopyJob job;
  for (const auto end : {kFront, kBack}) {
    job.open(UINT32_MAX);
    for (std::uint32_t i = 0; i < CopyJob::kMaxChunks; ++i)
      ASSERT_EQ(job.claim(UINT32_MAX, CopyJob::kMaxChunks, end).count, 1u);
    EXPECT_EQ(job.claim(UINT32_MAX, CopyJob::kMaxChunks, kFront).count, 0u);
    EXPECT_EQ(job.claim(UINT32_MAX, CopyJob::kMaxChunks, kBack).count, 0u);
  }
}

TEST(CopyJob, ALateClaimForAnEarlierLifeGetsNothing) {
  CopyJob job;
  job.open(7);
  EXPECT_EQ(job.claim(7, 4, kBack).count, 1u);
  job.open(8);
  EXPECT_EQ(job.claim(7, 4, kBack).count, 0u);
  EXPECT_EQ(job.claim(9, 4, kBack).count, 0u);
  EXPECT_EQ(job.claim(8, 4, kBack).first, 3u);
}

TEST(CopyJob, AJobThatWasNeverOpenedGivesNothing) {
  CopyJob job;
  EXPECT_EQ(job.claim(1, 4, kFront).count, 0u);
}

// Two threads copy each message together, life after life: every chunk is copied exactly once, and
// the one that finishes the last chunk knows it.
TEST(CopyJob, TwoThreadsShareEveryLifeWithoutGapOrOverlap) {
  constexpr std::uint32_t kLives = 2000;
  constexpr std::uint32_t kChunks = 37;
  CopyJob job;
  std::vector<std::atomic<int>> copied(kChunks);
  std::atomic<std::uint32_t> announced{0};
  std::atomic<int> last{0};

  const auto copy_all = [&](std::uint32_t life, CopyJob::End end) {
    for (CopyJob::Claim claim; (claim = job.claim(life, kChunks, end)).count != 0;) {
      for (std::uint32_t i = 0; i < claim.count; ++i)
        copied[claim.first + i].fetch_add(1, std::memory_order_relaxed);
      if (job.finish(claim.count, kChunks)) last.fetch_add(1);
    }
  };
  std::thread sender([&] {
    for (std::uint32_t life = 1; life <= kLives;) {
      life = announced.load(std::memory_order_acquire);
      if (life != 0) copy_all(life, kBack);  // often late: the receiver may be lives ahead by then
      if (life == kLives) break;
      std::this_thread::yield();
    }
  });
  for (std::uint32_t life = 1; life <= kLives; ++life) {
    job.open(life);
    announced.store(life, std::memory_order_release);
    if (life % 3 == 0) std::this_thread::yield();
    copy_all(life, kFront);
    while (job.done.load(std::memory_order_acquire) != kChunks)
      std::this_thread::yield();
    for (auto& count : copied)
      ASSERT_EQ(count.exchange(0), 1) << "life " << life;
  }
  sender.join();
  EXPECT_EQ(last.load(), static_cast<int>(kLives));
}

}  // namespace
}  // namespace mooncake_mpi
