// Threads that wait: they are woken, they sleep without using the CPU, and many of them share an
// engine. Each engine stands for a process.
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "engine_process.h"

namespace mooncake_mpi::testing {
namespace {

void sleep_ms(long milliseconds) {
  const timespec duration{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  nanosleep(&duration, nullptr);
}

double thread_cpu_ms() {
  timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) * 1e3 + static_cast<double>(used.tv_nsec) * 1e-6;
}

class EngineThreads : public TwoProcesses {
 protected:
  // `rounds` times there and back on `tag`; the answering side pauses now and then.
  void ping(int tag, int rounds, std::size_t bytes) {
    std::vector<std::uint32_t> out(bytes / 4), in(bytes / 4);
    for (int round = 0; round < rounds; ++round) {
      std::fill(out.begin(), out.end(), static_cast<std::uint32_t>(tag * 1'000'000 + round));
      Operation& receive = first().receive(1, tag, in.data(), bytes);
      Operation& send = first().send(1, tag, out.data(), bytes);
      ASSERT_TRUE(first().wait(send)) << "tag " << tag << " round " << round;
      ASSERT_TRUE(first().wait(receive)) << "tag " << tag << " round " << round;
      ASSERT_EQ(in, out);
    }
  }
  void pong(int tag, int rounds, std::size_t bytes, int pause_every) {
    std::vector<std::uint32_t> data(bytes / 4);
    for (int round = 0; round < rounds; ++round) {
      Operation& receive = second().receive(0, tag, data.data(), bytes);
      ASSERT_TRUE(second().wait(receive)) << "tag " << tag << " round " << round;
      if (pause_every != 0 && round % pause_every == 0) sleep_ms(2);  // the other side falls asleep
      Operation& send = second().send(0, tag, data.data(), bytes);
      ASSERT_TRUE(second().wait(send)) << "tag " << tag << " round " << round;
    }
  }
};

TEST_F(EngineThreads, AWaitingThreadIsWokenByTheMessage) {
  for (const std::size_t bytes : {8u, 20'000u, 500'000u}) {
    std::thread other([&] { pong(1, 300, bytes, 10); });
    ping(1, 300, bytes);
    other.join();
  }
}

TEST_F(EngineThreads, ABlockedThreadUsesNoCpu) {
  double used_ms = 0;
  int value = 0;
  std::thread waiter([&] {
    Operation& receive = second().receive(0, 0, &value, sizeof value);
    const double before = thread_cpu_ms();
    EXPECT_TRUE(second().wait(receive));
    used_ms = thread_cpu_ms() - before;
  });
  sleep_ms(400);
  const int sent = 7;
  EXPECT_TRUE(first().wait(first().send(1, 0, &sent, sizeof sent)));
  waiter.join();
  EXPECT_EQ(value, 7);
  EXPECT_LT(used_ms, 40);
}

TEST_F(EngineThreads, AWaitEndsAtItsTimeout) {
  int value = 0;
  Operation& receive = first().receive(1, 0, &value, sizeof value);
  const auto done = [&] { return receive.done.load(); };
  const std::uint64_t start = now_ns();
  EXPECT_EQ(first().engine->wait(done, kSecond / 20), WaitResult::kTimeout);
  const std::uint64_t taken = now_ns() - start;
  EXPECT_GE(taken, kSecond / 20);
  EXPECT_LT(taken, kSecond);
  EXPECT_TRUE(first().engine->cancel(receive, kChannel));
  first().engine->release(receive);
}

TEST_F(EngineThreads, ASignalEndsASleepingWait) {
  struct sigaction handler {};
  struct sigaction before {};
  handler.sa_handler = [](int) {};
  handler.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &handler, &before);
  int value = 0;
  std::atomic<bool> over{false};
  std::thread waiter([&] {
    Operation& receive = second().receive(0, 0, &value, sizeof value);
    const auto done = [&] { return receive.done.load(); };
    EXPECT_EQ(second().engine->wait(done, kDeadline), WaitResult::kInterrupted);
    over = true;
    second().engine->cancel(receive, kChannel);
    second().engine->release(receive);
  });
  sleep_ms(50);
  const std::uint64_t start = now_ns();
  while (!over && now_ns() - start < kDeadline) {
    pthread_kill(waiter.native_handle(), SIGUSR1);
    sleep_ms(5);
  }
  waiter.join();
  EXPECT_LT(now_ns() - start, kSecond);
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(EngineThreads, ASenderThatWaitsForRoomIsWokenWhenThereIsSome) {
  constexpr int kCount = 5000;
  std::thread receiver([&] {
    for (int i = 0; i < kCount; ++i) {
      if (i % 1000 == 0) sleep_ms(20);  // the ring runs full, and its producer falls asleep
      int value = -1;
      ASSERT_TRUE(second().wait(second().receive(0, 0, &value, sizeof value))) << i;
      ASSERT_EQ(value, i);
    }
  });
  std::vector<int> values(kCount);
  std::vector<Operation*> sends;
  for (int i = 0; i < kCount; ++i) {
    values[static_cast<std::size_t>(i)] = i;
    sends.push_back(&first().send(1, 0, &values[static_cast<std::size_t>(i)], sizeof(int)));
  }
  for (Operation* send : sends)
    ASSERT_TRUE(first().wait(*send));
  receiver.join();
}

TEST_F(EngineThreads, ManyThreadsOfTwoProcessesDoNotMixTheirTags) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int tag = 0; tag < kThreads; ++tag) {
    const std::size_t bytes = tag % 2 == 0 ? 64 : 40'000;
    threads.emplace_back([this, tag, bytes] { ping(tag, 150, bytes); });
    threads.emplace_back([this, tag, bytes] { pong(tag, 150, bytes, 30); });
  }
  for (std::thread& thread : threads)
    thread.join();
}

TEST_F(EngineThreads, CommunicatorsAreMadeWhileOthersWait) {
  std::atomic<bool> stop{false};
  std::atomic<bool> waiting{false};
  std::thread waiter([&] {
    while (!stop) {
      waiting = true;
      first().engine->wait([&] { return stop.load(); }, kSecond / 1000);
    }
  });
  while (!waiting)
    sleep_ms(1);
  for (int i = 0; i < 300; ++i) {
    const auto contexts = make_communicator(processes_);
    for (std::size_t rank = 0; rank < 2; ++rank)
      processes_[rank].engine->close_context(*contexts[rank]);
  }
  stop = true;
  waiter.join();
}

TEST_F(EngineThreads, FlushSendsWhatItsOwnerLetGoOf) {
  constexpr std::size_t kBytes = 3'000'000;
  std::vector<std::byte> data(kBytes, std::byte{9}), target(kBytes);
  std::thread receiver([&] {
    sleep_ms(20);
    EXPECT_TRUE(second().wait(second().receive(0, 0, target.data(), kBytes)));
  });
  const Buffer buffer{data.data(), kBytes};
  first().engine->release(
      *first().engine->send(*first().context, kChannel, 1, 0, buffer, SendMode::kBuffered).value());
  std::fill(data.begin(), data.end(), std::byte{0});  // the engine has a copy
  EXPECT_TRUE(first().engine->flush(kDeadline));
  receiver.join();
  EXPECT_EQ(target, std::vector<std::byte>(kBytes, std::byte{9}));
}

TEST_F(EngineThreads, FlushGivesUpAtItsTimeout) {
  std::vector<std::byte> data(3'000'000);
  first().engine->release(first().send(1, 0, data.data(), data.size()));
  EXPECT_FALSE(first().engine->flush(kSecond / 20));
}

}  // namespace
}  // namespace mooncake_mpi::testing
