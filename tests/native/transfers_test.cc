// Which way a message took is counted at both of its ends, over every lane, and why it was a longer
// one than there could be.
#include "lanes.h"

namespace mooncake_mpi::testing {
namespace {

constexpr std::size_t kBytes = (2 << 20) + 17;

Traffic on(const Transfers::ByPath& paths, TransferPath path) {
  return paths[static_cast<std::size_t>(path)];
}

Traffic total(const Transfers::ByPath& paths) {
  Traffic sum;
  for (const Traffic& traffic : paths) {
    sum.messages += traffic.messages;
    sum.bytes += traffic.bytes;
  }
  return sum;
}

void exchange(Job& job, std::size_t bytes, std::size_t room) {
  MessageBytes message(1, bytes);
  GuardedBuffer target(room);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  Operation& send = job[0].send(1, 5, message.buffer());
  ASSERT_TRUE(job.finish({&send, &receive}));
  job[0].release(send);
  job[1].release(receive);
}

class CountedTransfers : public OverEveryLane {
 protected:
  // All that was counted at one end was counted as this.
  static void expect_all(const Transfers::ByPath& paths, TransferPath path) {
    EXPECT_EQ(on(paths, path).messages, total(paths).messages)
        << kTransferPathNames[static_cast<std::size_t>(path)];
    EXPECT_EQ(on(paths, path).bytes, total(paths).bytes);
  }

  static void expect_path(const Transfers::ByPath& paths, bool device) {
    const Lane& lane = GetParam();
    const bool between = lane.send_device && lane.receive_device;
    if (device) {
      expect_all(paths, lane.cuda && between && lane.opens && lane.pushes ? TransferPath::kPush
                                                                          : TransferPath::kStaged);
      return;
    }
    EXPECT_EQ(on(paths, TransferPath::kPush).messages, 0u);
    EXPECT_EQ(on(paths, TransferPath::kStaged).messages, 0u);
    if (lane.send_device || lane.receive_device) return;
    if (lane.kind == Lane::Kind::kVerbs) expect_all(paths, TransferPath::kRdma);
    const bool mapped = lane.send_shared || lane.receive_shared;
    if (lane.kind == Lane::Kind::kShmWithoutCma && (!mapped || !lane.maps)) {
      expect_all(paths, TransferPath::kStream);
    }
    if (lane.kind == Lane::Kind::kFake && lane.fake.reads_peer && lane.fake.writes_peer) {
      expect_all(paths, TransferPath::kCopy);
    }
  }
};

TEST_P(CountedTransfers, AreThoseOfEveryLargeMessageAtBothEnds) {
  Job job(GetParam(), 2);
  for (int round = 0; round < 3; ++round)
    ASSERT_NO_FATAL_FAILURE(exchange(job, kBytes, kBytes));
  const Transfers there = job[0].transfers(1);
  const Transfers here = job[1].transfers(0);
  EXPECT_EQ(total(there.sent()).messages, 3u);
  EXPECT_EQ(total(there.sent()).bytes, 3 * kBytes);
  EXPECT_EQ(total(here.received()).messages, 3u);
  EXPECT_EQ(total(here.received()).bytes, 3 * kBytes);
  EXPECT_EQ(total(there.received()).messages, 0u);
  EXPECT_EQ(total(here.sent()).messages, 0u);
  expect_path(there.sent(), GetParam().send_device);
  expect_path(here.received(), GetParam().receive_device);
}

TEST_P(CountedTransfers, OfMessagesThatAreCutAreWhatTheirReceiversTook) {
  Job job(GetParam(), 2);
  ASSERT_NO_FATAL_FAILURE(exchange(job, kBytes, 100'000));
  EXPECT_EQ(total(job[1].transfers(0).received()).bytes, 100'000u);
  EXPECT_EQ(total(job[0].transfers(1).sent()).messages, 1u);
}

TEST_P(CountedTransfers, OfSmallMessagesAreThoseOfDevices) {
  Job job(GetParam(), 2);
  ASSERT_NO_FATAL_FAILURE(exchange(job, 100, 100));
  ASSERT_NO_FATAL_FAILURE(exchange(job, 0, 0));
  EXPECT_EQ(total(job[0].transfers(1).sent()).messages, GetParam().send_device ? 1u : 0u);
  const bool counted = GetParam().send_device || GetParam().receive_device;
  EXPECT_EQ(total(job[1].transfers(0).received()).messages, counted ? 1u : 0u);
}

TEST_P(CountedTransfers, KnowWhyGpusDoNotReachEachOther) {
  Job job(GetParam(), 2);
  ASSERT_NO_FATAL_FAILURE(exchange(job, kBytes, kBytes));
  ASSERT_NO_FATAL_FAILURE(exchange(job, kBytes, kBytes));
  const bool between = GetParam().cuda && GetParam().send_device && GetParam().receive_device;
  const std::vector<std::string> reasons = job[0].detours(1);
  if (between && !GetParam().opens) {
    ASSERT_EQ(reasons.size(), 1u);
    EXPECT_NE(reasons[0].find("cannot be opened: invalid argument (CUDA_ERROR_INVALID_VALUE)"),
              std::string::npos)
        << reasons[0];
  } else if (between && !GetParam().pushes) {
    ASSERT_EQ(reasons.size(), 1u);
    EXPECT_EQ(reasons[0], "the lane cuda_ipc is not used: not among the chosen lanes");
  } else if (GetParam().cuda) {
    EXPECT_TRUE(reasons.empty()) << reasons[0];
  }
  EXPECT_TRUE(job[1].detours(0).empty());
}

TEST(ShortTransfers, AreStreamsOrCopiesWhileTheSenderWaits) {
  Job job({"Shm", Lane::Kind::kShm}, 2);
  const auto received = [&](TransferPath path) {
    return on(job[1].transfers(0).received(), path).messages;
  };
  constexpr std::size_t kShort = 1 << 20;
  ASSERT_NO_FATAL_FAILURE(exchange(job, kShort, kShort));
  EXPECT_EQ(received(TransferPath::kStream), 0u) << "nobody waits";
  if (!job[0].attend(true)) GTEST_SKIP() << "there is one core for both parties";
  ASSERT_NO_FATAL_FAILURE(exchange(job, kShort, kShort));
  EXPECT_EQ(received(TransferPath::kStream), 1u);
  EXPECT_EQ(received(TransferPath::kCopy), 1u);
  for (int i = 0; i < 100; ++i)
    ASSERT_NO_FATAL_FAILURE(exchange(job, kShort, kShort));
  EXPECT_GE(received(TransferPath::kStream), 3u);
  EXPECT_GE(received(TransferPath::kCopy), 3u);
  const std::uint64_t streams = received(TransferPath::kStream);
  ASSERT_NO_FATAL_FAILURE(exchange(job, 3 * kBytes, 3 * kBytes));
  EXPECT_EQ(received(TransferPath::kStream), streams) << "it is too long";
  job[0].attend(false);
  ASSERT_NO_FATAL_FAILURE(exchange(job, kShort, kShort));
  EXPECT_EQ(received(TransferPath::kStream), streams);
}

INSTANTIATE_TEST_SUITE_P(Lanes, CountedTransfers, ::testing::ValuesIn(kLanes), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
