// A receiver that does not receive: its memory stays bounded, nobody deadlocks, nothing is lost.
// One thread plays every rank.
#include "effort.h"
#include "lanes.h"

namespace mooncake_mpi::testing {
namespace {

class FlowControl : public OverEveryLane {
 protected:
  static ProtocolLimits limits() {
    ProtocolLimits limits;
    limits.unexpected_bytes = 256 * 1024;
    return limits;
  }
};

TEST_P(FlowControl, UnexpectedMessagesAreStoredUpToTheLimitOnly) {
  constexpr std::size_t kBytes = 4000;
  constexpr int kCount = 1000;
  Job job(GetParam(), 2, limits());
  MessageBytes message(1, kBytes);
  std::vector<Operation*> operations;
  for (int i = 0; i < kCount; ++i) {
    operations.push_back(&job[0].send(1, 0, message.buffer()));
    if (i % 10 == 0) job.settle(Job::kFewRounds);
  }
  job.settle();
  // The limit for the bytes, and an envelope for each of the rest, which the sender still holds.
  const std::size_t envelope = sizeof(UnexpectedMessage) + 128;
  EXPECT_LE(job[1].unexpected_bytes(), limits().unexpected_bytes + kCount * envelope);
  // A message of a device is announced, however short.
  EXPECT_EQ(job[0].counters().eager_sent != 0, !GetParam().send_device);
  EXPECT_GT(job[0].counters().rendezvous_sent, 0u);

  GuardedBuffer target(kBytes);
  for (int i = 0; i < kCount; ++i) {
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&receive}));
    target.expect(1, kBytes);
    job[1].release(receive);
  }
  ASSERT_TRUE(job.finish(operations));
  EXPECT_EQ(job[1].unexpected_bytes(), 0u);
}

TEST_P(FlowControl, SmallMessagesGoEagerlyAgainOnceTheQueueWasDrained) {
  constexpr std::size_t kBytes = 1000;
  Job job(GetParam(), 2, limits());
  MessageBytes message(1, kBytes);
  GuardedBuffer target(kBytes);
  for (int round = 0; round < 3; ++round) {
    std::vector<Operation*> sends;
    for (int i = 0; i < 600; ++i)
      sends.push_back(&job[0].send(1, 0, message.buffer()));
    job.settle();
    for (int i = 0; i < 600; ++i) {
      Operation& receive = job[1].receive(0, 0, target.buffer());
      ASSERT_TRUE(job.finish({&receive}));
      job[1].release(receive);
    }
    ASSERT_TRUE(job.finish(sends));
    for (Operation* send : sends)
      job[0].release(*send);
    job.settle();
    const std::uint64_t before = job[0].counters().eager_sent;
    Operation& send = job[0].send(1, 0, message.buffer());
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    EXPECT_EQ(job[0].counters().eager_sent, before + (GetParam().send_device ? 0 : 1)) << round;
  }
}

TEST_P(FlowControl, WithoutAnyCreditEveryMessageStillArrives) {
  ProtocolLimits none;
  none.unexpected_bytes = 0;
  Job job(GetParam(), 2, none);
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    const std::size_t bytes = seed * 7 % 500;
    MessageBytes message(seed, bytes);
    GuardedBuffer target(bytes);
    Operation& send = job[0].send(1, 0, message.buffer(),
                                  seed % 2 == 0 ? SendMode::kSynchronous : SendMode::kStandard);
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&send, &receive})) << seed;
    target.expect(seed, bytes);
  }
  EXPECT_EQ(job[0].counters().eager_sent, 0u);
}

TEST_P(FlowControl, ProcessesThatFloodEachOtherBeforeTheyReceiveDoNotDeadlock) {
  constexpr int kRanks = 3;
  constexpr int kCount = effort(600);
  Job job(GetParam(), kRanks, limits());
  MessageBytes small(1, 64), medium(2, 3000), large(3, 40'000);
  MessageBytes* const kinds[] = {&small, &medium, &large};
  std::vector<Operation*> operations;
  for (int i = 0; i < kCount; ++i) {
    for (int pair = 0; pair < kRanks * kRanks; ++pair) {
      operations.push_back(&job[pair / kRanks].send(pair % kRanks, 0, kinds[i % 3]->buffer()));
    }
  }
  std::deque<GuardedBuffer> targets;
  for (int i = 0; i < kCount; ++i) {
    for (int pair = 0; pair < kRanks * kRanks; ++pair) {
      GuardedBuffer& target = targets.emplace_back(kinds[i % 3]->bytes().size());
      operations.push_back(&job[pair % kRanks].receive(pair / kRanks, 0, target.buffer()));
    }
    if (i % 50 == 0) job.settle(Job::kFewRounds);
  }
  ASSERT_TRUE(job.finish(operations));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::size_t kind = i / (kRanks * kRanks) % 3;
    targets[i].expect(static_cast<std::uint32_t>(kind) + 1, kinds[kind]->bytes().size());
  }
}

TEST_P(FlowControl, AnEagerLimitAboveWhatAPacketHoldsIsNoTrap) {
  ProtocolLimits wide;
  wide.eager_bytes = 1 << 20;
  wide.unexpected_bytes = 8 << 20;
  Job job(GetParam(), 2, wide);
  for (const std::size_t bytes :
       {std::size_t{16 * 1024 - 8}, std::size_t{16 * 1024}, std::size_t{32 * 1024 - 8},
        std::size_t{32 * 1024}, std::size_t{32 * 1024 + 1}, std::size_t{500'000}}) {
    for (const SendMode mode : {SendMode::kStandard, SendMode::kSynchronous}) {
      MessageBytes message(1, bytes);
      GuardedBuffer target(bytes);
      Operation* send = nullptr;
      if (mode == SendMode::kSynchronous || !job[0].try_send_now(1, 0, message.buffer())) {
        send = &job[0].send(1, 0, message.buffer(), mode);
      }
      Operation& receive = job[1].receive(0, 0, target.buffer());
      ASSERT_TRUE(job.finish({send != nullptr ? send : &receive, &receive})) << bytes;
      target.expect(1, bytes);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, FlowControl, ::testing::ValuesIn(kLanes), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
