// What a small message over the verbs lane may cost. Every allocation of this thread is counted.
#include <gtest/gtest.h>
#include <time.h>

#include "counted_allocations.h"
#include "party.h"

namespace mooncake_mpi::testing {
namespace {

TEST(VerbsCost, NoSmallMessageAllocates) {
  Job job({.name = "Verbs", .kind = Lane::Kind::kVerbs}, 2);
  std::byte out[8]{};
  std::byte in[8];
  const auto send_and_receive = [&](int from) {
    Operation& receive = job[1 - from].receive(from, 1, {in, sizeof in});
    if (!job[from].try_send_now(1 - from, 1, {out, sizeof out})) {
      Operation& send = job[from].send(1 - from, 1, {out, sizeof out});
      ASSERT_TRUE(job.finish({&send}));
      job[from].release(send);
    }
    for (int turn = 0; !receive.done && turn < 1'000'000; ++turn) {
      job[0].progress();
      job[1].progress();
    }
    ASSERT_TRUE(receive.done);
    job[1 - from].release(receive);
  };
  for (int i = 0; i < 500; ++i)
    send_and_receive(i % 2);
  const std::uint64_t before = allocations;
  // Both ways, and many one way, so that credits have to be told, too.
  for (int i = 0; i < 1000; ++i)
    send_and_receive(i < 500 ? i % 2 : 0);
  EXPECT_EQ(allocations - before, 0u);
}

double cpu_ms_of_this_thread() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

TEST(VerbsCost, AThreadThatWaitsSleeps) {
  Job job({.name = "Verbs", .kind = Lane::Kind::kVerbs}, 2);
  std::byte byte{};
  Operation& receive = job[1].receive(0, 1, {&byte, 1});
  Operation& send = job[0].send(1, 1, {&byte, 1});
  ASSERT_TRUE(job.finish({&send, &receive}));
  double before = cpu_ms_of_this_thread();
  job[0].wait(600'000'000, false);
  EXPECT_LT(cpu_ms_of_this_thread() - before, 60);
  // In slices, as a call that looks for signals does.
  before = cpu_ms_of_this_thread();
  for (int slice = 0; slice < 30; ++slice)
    job[0].wait(20'000'000, true);
  EXPECT_LT(cpu_ms_of_this_thread() - before, 80);  // of 600; under sanitizers and load, too
}

}  // namespace
}  // namespace mooncake_mpi::testing
