// Chunks of a shared copy are claimed once each, by whoever comes, and only in their own life.
#include "transport/copy/copy_job.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace mooncake_mpi {
namespace {

TEST(CopyJob, HandsOutEveryChunkOnceHalfOfTheRestAtATimeAndThenNone) {
  CopyJob job;
  job.open(1);
  std::uint32_t next = 0;
  for (const std::uint32_t count : {5u, 3u, 1u, 1u}) {
    const CopyJob::Claim claim = job.claim(1, 10);
    EXPECT_EQ(claim.first, next);
    EXPECT_EQ(claim.count, count);
    next += count;
  }
  EXPECT_EQ(job.claim(1, 10).count, 0u);
  EXPECT_FALSE(job.finish(5, 10));
  EXPECT_FALSE(job.finish(4, 10));
  EXPECT_TRUE(job.finish(1, 10));
}

TEST(CopyJob, NobodyClaimsMoreThanATurn) {
  CopyJob job;
  job.open(1);
  EXPECT_EQ(job.claim(1, 100, 3).count, 3u);
  EXPECT_EQ(job.claim(1, 100, 3).first, 3u);
}

TEST(CopyJob, ALateClaimForAnEarlierLifeGetsNothing) {
  CopyJob job;
  job.open(7);
  EXPECT_EQ(job.claim(7, 4).count, 2u);
  job.open(8);
  EXPECT_EQ(job.claim(7, 4).count, 0u);
  EXPECT_EQ(job.claim(9, 4).count, 0u);
  EXPECT_EQ(job.claim(8, 4).first, 0u);
}

TEST(CopyJob, AJobThatWasNeverOpenedGivesNothing) {
  CopyJob job;
  EXPECT_EQ(job.claim(1, 4).count, 0u);
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

  const auto copy_all = [&](std::uint32_t life) {
    for (CopyJob::Claim claim; (claim = job.claim(life, kChunks, 5)).count != 0;) {
      for (std::uint32_t i = 0; i < claim.count; ++i)
        copied[claim.first + i].fetch_add(1, std::memory_order_relaxed);
      if (job.finish(claim.count, kChunks)) last.fetch_add(1);
    }
  };
  std::thread sender([&] {
    for (std::uint32_t life = 1; life <= kLives;) {
      life = announced.load(std::memory_order_acquire);
      if (life != 0) copy_all(life);  // often late: the receiver may be lives ahead by then
      if (life == kLives) break;
      std::this_thread::yield();
    }
  });
  for (std::uint32_t life = 1; life <= kLives; ++life) {
    job.open(life);
    announced.store(life, std::memory_order_release);
    if (life % 3 == 0) std::this_thread::yield();
    copy_all(life);
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
