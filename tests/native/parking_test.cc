// Small sends of devices whose receives do not come. One thread.
#include <gtest/gtest.h>

#include <algorithm>

#include "lanes.h"

namespace mooncake_mpi::testing {
namespace {

constexpr std::size_t kSmall = 64 * 1024;

const Lane kOverGpus[] = {
    {.name = "Cuda",
     .kind = Lane::Kind::kShm,
     .send_device = true,
     .receive_device = true,
     .cuda = true},
    {.name = "FromCuda", .kind = Lane::Kind::kShm, .send_device = true, .cuda = true},
    {.name = "Verbs",
     .kind = Lane::Kind::kVerbs,
     .send_device = true,
     .receive_device = true,
     .cuda = true},
};

class Parking : public ::testing::TestWithParam<Lane> {};

TEST_P(Parking, TwoThatSendBeforeTheyReceiveDoNotWaitForEachOther) {
  Job job(GetParam(), 2);
  MessageBytes first(1, kSmall);
  MessageBytes second(2, 8);
  Operation& one = job[0].send(1, 5, first.buffer());
  Operation& two = job[1].send(0, 5, second.buffer());
  ASSERT_TRUE(job.finish({&one, &two}));
  EXPECT_EQ(one.completion.error, Error::kNone);
  EXPECT_EQ(job[0].counters().parked, 1u);
  GuardedBuffer into_first(8);
  GuardedBuffer into_second(kSmall);
  Operation& three = job[0].receive(1, 5, into_first.buffer());
  Operation& four = job[1].receive(0, 5, into_second.buffer());
  ASSERT_TRUE(job.finish({&three, &four}));
  into_second.expect(1, kSmall);
  into_first.expect(2, 8);
}

TEST_P(Parking, TheMessageIsWhatWasSentWhateverBecomesOfTheBuffer) {
  Job job(GetParam(), 2);
  TestMemory memory(1000, Place::kCuda);
  std::ranges::fill(memory.bytes(), std::byte{1});
  Operation& send = job[0].send(1, 5, memory.buffer(1000));
  ASSERT_TRUE(job.finish({&send}));
  job[0].release(send);
  std::ranges::fill(memory.bytes(), std::byte{2});
  GuardedBuffer into(1000);
  Operation& receive = job[1].receive(0, 5, into.buffer());
  ASSERT_TRUE(job.finish({&receive}));
  EXPECT_TRUE(std::ranges::all_of(into.bytes(), [](std::byte b) { return b == std::byte{1}; }));
}

TEST_P(Parking, IsAWayOfItsOwnForTheSender) {
  Job job(GetParam(), 2);
  MessageBytes message(1, 1000);
  Operation& send = job[0].send(1, 5, message.buffer());
  ASSERT_TRUE(job.finish({&send}));
  GuardedBuffer into(1000);
  Operation& receive = job[1].receive(0, 5, into.buffer());
  ASSERT_TRUE(job.finish({&receive}));
  job.settle();
  const Transfers there = job[0].transfers(1);
  for (std::size_t path = 0; path < kTransferPaths; ++path) {
    const bool parked = static_cast<TransferPath>(path) == TransferPath::kParked;
    EXPECT_EQ(there.sent()[path].messages, parked ? 1u : 0u) << kTransferPathNames[path];
    EXPECT_EQ(there.sent()[path].bytes, parked ? 1000u : 0u) << kTransferPathNames[path];
  }
}

TEST_P(Parking, KeepsTheOrderOfMessages) {
  Job job(GetParam(), 2);
  std::vector<MessageBytes> messages;
  std::vector<Operation*> sends;
  for (std::uint32_t i = 0; i < 20; ++i) {
    messages.emplace_back(i, 100 + i);
    sends.push_back(&job[0].send(1, 5, messages.back().buffer()));
  }
  ASSERT_TRUE(job.finish(sends));
  for (std::uint32_t i = 0; i < 20; ++i) {
    GuardedBuffer into(100 + i);
    Operation& receive = job[1].receive(0, 5, into.buffer());
    ASSERT_TRUE(job.finish({&receive}));
    into.expect(i, 100 + i);
  }
}

TEST_P(Parking, IsNotForSynchronousOrLargeSends) {
  Job job(GetParam(), 2);
  MessageBytes small(1, 8);
  MessageBytes large(2, kSmall + 1);
  Operation& synchronous = job[0].send(1, 5, small.buffer(), SendMode::kSynchronous);
  Operation& standard = job[0].send(1, 6, large.buffer());
  job.settle();
  EXPECT_EQ(synchronous.done, 0);
  EXPECT_EQ(standard.done, 0);
  GuardedBuffer into_small(8);
  GuardedBuffer into_large(kSmall + 1);
  Operation& three = job[1].receive(0, 5, into_small.buffer());
  Operation& four = job[1].receive(0, 6, into_large.buffer());
  ASSERT_TRUE(job.finish({&synchronous, &standard, &three, &four}));
  into_large.expect(2, kSmall + 1);
}

TEST_P(Parking, AnEndOfTheReceiverIsNotToldOfWhatIsDoneAlready) {
  Job job(GetParam(), 2);
  MessageBytes message(1, 8);
  Operation& send = job[0].send(1, 5, message.buffer());
  ASSERT_TRUE(job.finish({&send}));
  EXPECT_FALSE(job[0].cancel(send));
  job.kill(1);
  job.settle();
  EXPECT_EQ(send.completion.error, Error::kNone);
  std::size_t parked = 1;
  job[0].inspect([&](Protocol& protocol) { parked = protocol.unfinished() ? 1 : 0; });
  EXPECT_EQ(parked, 0u);
}

INSTANTIATE_TEST_SUITE_P(Lanes, Parking, ::testing::ValuesIn(kOverGpus), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
