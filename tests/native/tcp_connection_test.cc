// Whole messages while connections break, and what becomes of the processes at their ends.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "effort.h"
#include "party.h"

namespace mooncake_mpi::testing {
namespace {

constexpr Lane kHosts{.name = "TcpFake", .kind = Lane::Kind::kTcpFake};
constexpr Lane kImpatient{
    .name = "TcpFake", .kind = Lane::Kind::kTcpFake, .refused_ns = 1'000'000'000u};

void exchange(Job& job, int from, int to, std::uint32_t seed, std::size_t bytes) {
  MessageBytes message(seed, bytes);
  GuardedBuffer target(bytes);
  Operation& receive = job[to].receive(from, 5, target.buffer());
  Operation& send = job[from].send(to, 5, message.buffer());
  ASSERT_TRUE(job.finish({&send, &receive}));
  EXPECT_EQ(send.completion.error, Error::kNone);
  EXPECT_EQ(receive.completion.error, Error::kNone);
  target.expect(seed, bytes);
  job[from].release(send);
  job[to].release(receive);
}

TEST(TcpConnections, ThatBreakInAMessageFailItAndThatPeerAlone) {
  for (const std::size_t bytes : {std::size_t{100}, std::size_t{30'000}, std::size_t{3'000'000}}) {
    for (int steps = 0; steps < 16; ++steps) {
      SCOPED_TRACE(::testing::Message() << bytes << " bytes, after " << steps << " steps");
      Job job(kHosts, 2);
      job.internet().weather.buffer_bytes = 16 * 1024;
      exchange(job, 0, 1, 1, 200'000);
      exchange(job, 1, 0, 2, 200'000);
      MessageBytes message(3, bytes);
      GuardedBuffer target(bytes);
      Operation& receive = job[1].receive(0, 5, target.buffer());
      Operation& send = job[0].send(1, 5, message.buffer());
      for (int i = 0; i < steps; ++i)
        job.step();
      ++job.internet().weather.resets;
      ASSERT_TRUE(job.finish({&send, &receive})) << "hangs";
      if (receive.completion.error == Error::kNone) {
        target.expect(3, bytes);
      } else {
        EXPECT_EQ(receive.completion.error, Error::kPathLost);
      }
      job[0].release(send);
      job[1].release(receive);
      // Whoever calls the other from now on hears of it at once.
      ASSERT_TRUE(job.run_until([&] {
        Operation& late = job[1].receive(0, 6, target.buffer());
        const bool failed = late.done && late.completion.error == Error::kPathLost;
        if (!failed) job[1].cancel(late);
        job[1].release(late);
        return failed;
      }));
    }
  }
}

TEST(TcpConnections, OfAHostThatAnswersNothingFailItsMessages) {
  Job job(kImpatient, 3);
  exchange(job, 0, 1, 1, 100);
  exchange(job, 0, 2, 2, 100);
  GuardedBuffer target(10);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  job.internet().weather.silence_ns = 4'000'000'000u;
  ASSERT_TRUE(job.finish({&receive}));
  EXPECT_EQ(receive.completion.error, Error::kPathLost);
  job[1].release(receive);
}

TEST(TcpConnections, ToAProcessThatListensNowhereFailInTheEnd) {
  Job job(kImpatient, 2);
  job.internet().weather.refusals = 1 << 30;
  MessageBytes message(3, 100);
  Operation& send = job[0].send(1, 5, message.buffer());
  job.settle();
  const auto troubles = job[0].path_troubles(1);
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_NE(troubles[0].find("refused"), std::string::npos) << troubles[0];
  ASSERT_TRUE(job.finish({&send}));
  EXPECT_EQ(send.completion.error, Error::kPathLost);
  job[0].release(send);
}

TEST(TcpConnections, ALargeMessageDoesNotHoldUpSmallOnes) {
  Job job(kHosts, 2);
  job.internet().weather.buffer_bytes = 16 * 1024;
  exchange(job, 0, 1, 1, 200'000);
  exchange(job, 0, 1, 2, 200'000);
  MessageBytes large(3, 20'000'000);
  MessageBytes small(4, 100);
  GuardedBuffer large_target(large.bytes().size());
  GuardedBuffer small_target(100);
  Operation& large_receive = job[1].receive(0, 5, large_target.buffer());
  Operation& small_receive = job[1].receive(0, 6, small_target.buffer());
  Operation& large_send = job[0].send(1, 5, large.buffer());
  for (int i = 0; i < 40; ++i)
    job.step();
  Operation& small_send = job[0].send(1, 6, small.buffer());
  ASSERT_TRUE(job.finish({&small_receive}));
  EXPECT_FALSE(large_receive.done);
  ASSERT_TRUE(job.finish({&large_send, &large_receive, &small_send}));
  large_target.expect(3, large.bytes().size());
  for (Operation* operation : {&large_send, &small_send})
    job[0].release(*operation);
  for (Operation* operation : {&large_receive, &small_receive})
    job[1].release(*operation);
}

// Two connections share its only piece: one has it, and the other finds nothing left to do.
TEST(TcpConnections, AMessageThatIsLeftIsReadNoMoreThoughAllOfItWasBegunWith) {
  constexpr std::size_t kBytes = 200'000;
  for (int steps = 0; steps < 12; ++steps) {
    SCOPED_TRACE(::testing::Message() << "after " << steps << " steps");
    Job job(kHosts, 2);
    job.internet().weather.buffer_bytes = 16 * 1024;
    exchange(job, 0, 1, 1, kBytes);
    exchange(job, 0, 1, 2, kBytes);
    void* memory =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    MessageBytes message(3, kBytes);
    std::memcpy(memory, message.bytes().data(), kBytes);
    GuardedBuffer target(kBytes);
    Operation& receive = job[1].receive(0, 5, target.buffer());
    Operation& send = job[0].send(1, 5, {static_cast<std::byte*>(memory), kBytes});
    for (int i = 0; i < steps; ++i)
      job.step();
    for (int i = 0; i < 3; ++i)
      job[0].progress();
    ASSERT_TRUE(job.run_until([&] {
      bool left = false;
      job[0].inspect([&](Protocol& protocol) { left = protocol.leave_send(send); });
      return left;
    }));
    ASSERT_EQ(mprotect(memory, kBytes, PROT_NONE), 0);  // whoever reads it ends the test
    ASSERT_TRUE(job.finish({&send, &receive}));
    target.expect(3, kBytes);
    job[0].release(send);
    job[1].release(receive);
    munmap(memory, kBytes);
  }
}

// Whatever time passes between two of them.
constexpr Lane kGathering{.name = "TcpFake", .kind = Lane::Kind::kTcpFake, .closely_ns = kAlways};

TEST(TcpConnections, SmallMessagesThatFollowEachOtherGoTogether) {
  constexpr int kCount = 50;
  Job job(kGathering, 2);
  exchange(job, 0, 1, 1, 100);
  job.settle();
  std::deque<MessageBytes> messages;
  std::vector<Operation*> sends;
  const std::uint64_t before = job.internet().sends();
  for (int i = 0; i < kCount; ++i) {
    MessageBytes& message = messages.emplace_back(static_cast<std::uint32_t>(i), 100);
    sends.push_back(&job[0].send(1, 5, message.buffer()));
    if (i == 0) {
      EXPECT_EQ(job.internet().sends(), before + 1) << "a lone one is not kept";
    }
  }
  job[0].progress();
  EXPECT_LT(job.internet().sends() - before, kCount / 2u);
  for (int i = 0; i < kCount; ++i) {
    GuardedBuffer target(100);
    Operation& receive = job[1].receive(0, 5, target.buffer());
    ASSERT_TRUE(job.finish({&receive}));
    target.expect(static_cast<std::uint32_t>(i), 100);
    job[1].release(receive);
    job[0].release(*sends[static_cast<std::size_t>(i)]);
  }
}

TEST(TcpConnections, WhatIsGatheredGoesThoughItsProcessIsAway) {
  Job job(kGathering, 2);
  exchange(job, 0, 1, 1, 100);
  for (int turn = 0; turn < 20; ++turn) {
    std::deque<MessageBytes> messages;
    std::deque<GuardedBuffer> targets;
    std::vector<Operation*> receives;
    for (std::uint32_t i = 0; i < 3; ++i) {
      receives.push_back(&job[1].receive(0, 5, targets.emplace_back(100).buffer()));
      job[0].release(job[0].send(1, 5, messages.emplace_back(i, 100).buffer()));
    }
    const std::uint64_t deadline = now_ns() + 20'000'000'000u;
    while (!receives.back()->done && now_ns() < deadline)
      job[1].progress();
    ASSERT_TRUE(receives.back()->done) << "turn " << turn;
    for (std::uint32_t i = 0; i < 3; ++i) {
      targets[i].expect(i, 100);
      job[1].release(*receives[i]);
    }
  }
}

TEST(TcpConnections, AProcessThatSleepsIsWokenByWhatArrives) {
  Job job(kHosts, 2);
  exchange(job, 0, 1, 1, 100);
  exchange(job, 1, 0, 2, 100);
  MessageBytes message(3, 100);
  GuardedBuffer target(100);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  Operation& send = job[0].send(1, 5, message.buffer());
  std::uint64_t done_ns = UINT64_MAX;
  std::thread watcher([&] {
    for (int turn = 0; turn < 10'000 && !receive.done; ++turn)
      usleep(500);
    done_ns = now_ns();
  });
  const std::uint64_t start = now_ns();
  job[1].wait(2'000'000'000, true);
  watcher.join();
  EXPECT_TRUE(receive.done);
  EXPECT_LT(done_ns - start, 1'900'000'000u) << "when it had waited long enough";
  job[0].release(send);
  job[1].release(receive);
}

std::size_t descriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(open), end(open)));
}

std::size_t resident_bytes() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * 4096;
}

// Ten thousand times: MOONCAKE_MPI_TEST_LONG=1.
TEST(TcpConnections, MadeAndClosedAgainAndAgainLeaveNothing) {
  const int cycles = std::getenv("MOONCAKE_MPI_TEST_LONG") != nullptr ? 10'000 : effort(200);
  constexpr Lane kSystem{.name = "Tcp", .kind = Lane::Kind::kTcp};
  std::size_t open = 0, resident = 0;
  for (int cycle = 0; cycle < cycles; ++cycle) {
    Job job(kSystem, 2);
    exchange(job, cycle % 2, 1 - cycle % 2, 1, 100);
    exchange(job, 0, 1, 2, 100'000);
    if (::testing::Test::HasFatalFailure()) return;
    job.close();
    if (cycle == cycles / 10) {
      open = descriptors();
      resident = resident_bytes();
    }
  }
  EXPECT_EQ(descriptors(), open);
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), resident + (4u << 20));
  }
  std::printf("%d cycles: %zu descriptors then and now, %zd KiB more\n", cycles, open,
              (static_cast<ssize_t>(resident_bytes()) - static_cast<ssize_t>(resident)) / 1024);
}

}  // namespace
}  // namespace mooncake_mpi::testing
