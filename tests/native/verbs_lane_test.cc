// Rails that fail, recover or are all gone; requests, registrations and completions that fail: a
// message arrives once and whole, or its operations end with an error, and nothing is left open.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "party.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

using verbs_driver::FakeFabric;
using verbs_driver::Status;
using verbs_driver::Step;

TEST(VerbsLane, LargeMessagesAreReadAndNoSenderFindsAReceiverNotReady) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  exchange(job, 2, 3'000'000);
  EXPECT_EQ(job[1].counters().remote_reads, 1u);
  EXPECT_EQ(job[0].counters().fragments_sent, 0u);
  EXPECT_GE(job.fabric().counters().reads, 3'000'000u / (16 * 1024));
  EXPECT_EQ(job.fabric().counters().receiver_not_ready, 0u);
}

TEST(VerbsLane, APortThatIsUpAndReachesNobodyCarriesNothing) {
  Job job(kTwoRails, 2);
  job.fabric().cut(1);
  const auto troubled = [&] {
    return !job[0].path_troubles(1).empty() && !job[1].path_troubles(0).empty();
  };
  bool always = true;
  const auto end = now_ns() + 500'000'000u;  // paths are tried again after 100 ms
  for (uint32_t message = 1; now_ns() < end; ++message) {
    exchange(job, message, 200'000);
    always &= message == 1 || troubled();
  }
  EXPECT_TRUE(always) << "it was used again without having proved to reach the peer";
  EXPECT_EQ(job.fabric().counters().cut_off, 0u);
  job.fabric().cut(-1);
  EXPECT_TRUE(
      run(job, [&] { return job[0].path_troubles(1).empty() && job[1].path_troubles(0).empty(); }));
}

TEST(VerbsLane, MessagesOfTheSameBytesShareARegistrationUntilTheLastOfThemIsOver) {
  constexpr uint64_t kMessages = 6;
  constexpr size_t kBytes = 300'000;
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  const auto registered = [&] { return job.fabric().calls(Step::kRegisterMemory); };
  const size_t open = job.fabric().live();
  MessageBytes message(2, kBytes);
  for (int round = 0; round < 2; ++round) {
    const uint64_t before = registered();
    std::vector<Operation*> operations;
    std::deque<GuardedBuffer> targets;
    for (uint64_t i = 0; i < kMessages; ++i)
      operations.push_back(&job[0].send(1, 2, message.buffer()));
    EXPECT_EQ(registered() - before, 2u) << "with each rail once, round " << round;
    for (uint64_t i = 0; i < kMessages; ++i)
      operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
    ASSERT_TRUE(run(job, [&] {
      return std::all_of(operations.begin(), operations.end(),
                         [](const Operation* operation) { return operation->done != 0; });
    }));
    EXPECT_EQ(registered() - before, 2u + 2u * kMessages) << "those read into are others";
    EXPECT_EQ(job.fabric().live(), open) << "nothing stays open to the peer";
    for (const GuardedBuffer& target : targets)
      target.expect(2, kBytes);
    for (size_t i = 0; i < operations.size(); ++i)
      job[i < kMessages ? 0 : 1].release(*operations[i]);
  }
}

TEST(VerbsLane, MemoryMadeForMessagesIsRegisteredOnce) {
  const Lane lane{.name = "",
                  .kind = Lane::Kind::kVerbs,
                  .send_shared = true,
                  .receive_shared = true,
                  .rails = 2};
  Job job(lane, 2);
  exchange(job, 1, 100);
  const auto registered = [&] { return job.fabric().calls(Step::kRegisterMemory); };
  process_pool().set_keep_bytes(SIZE_MAX);
  for (uint32_t seed = 2; seed < 5; ++seed)
    exchange(job, seed, 300'000);  // from then on at the same addresses
  const uint64_t before = registered();
  for (uint32_t seed = 5; seed < 20; ++seed)
    exchange(job, seed, 300'000);  // freed and allocated again each time
  EXPECT_EQ(registered(), before);
  process_pool().set_keep_bytes(0);
  exchange(job, 20, 300'000);
  EXPECT_GT(registered(), before);
  EXPECT_EQ(job[1].counters().remote_reads, 19u);
  process_pool().set_keep_bytes(SharedPool::Limits{}.keep_bytes);
  job.close();
  EXPECT_EQ(job.fabric().live(), 0u);
}

TEST(VerbsLane, ShortMessagesAreReadFromBounceBuffersAndIntoThem) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 40'000);
  const uint64_t before = job.fabric().calls(Step::kRegisterMemory);
  const size_t open = job.fabric().live();
  for (uint32_t seed = 2; seed < 20; ++seed)
    exchange(job, seed, seed % 2 == 0 ? 64 * 1024 : 33'000 + seed);
  EXPECT_EQ(job.fabric().calls(Step::kRegisterMemory), before);
  EXPECT_EQ(job.fabric().live(), open);
  EXPECT_EQ(job[1].counters().remote_reads, 19u);
}

constexpr ProtocolLimits kLongEager{.eager_bytes = 64 * 1024, .far_eager_bytes = 64 * 1024};
constexpr size_t kPacket = verbs::kPacketBytes - wire::kPacketHeadBytes;

TEST(VerbsLane, AnEagerMessageMayTakeSeveralPackets) {
  Job job(kTwoRails, 2, kLongEager);
  exchange(job, 1, 100);
  uint32_t seed = 2;
  for (const size_t packets : {1, 2, 3, 4}) {
    for (const int more : {-17, -16, -1, 0, 1}) {
      const size_t bytes = packets * kPacket + static_cast<size_t>(more);
      for (const SendMode mode : {SendMode::kStandard, SendMode::kSynchronous}) {
        MessageBytes message(seed, bytes);
        GuardedBuffer target(bytes);
        Operation& send = job[0].send(1, 1, message.buffer(), mode);
        Operation& receive = job[1].receive(0, 1, target.buffer());
        ASSERT_TRUE(run(job, [&] { return send.done && receive.done; }));
        target.expect(seed++, bytes);
        job[0].release(send);
        job[1].release(receive);
      }
    }
  }
  // With the fixed part of a synchronous one it has to fit; what does not is read.
  EXPECT_EQ(job[0].counters().eager_sent, 1u + 2 * 20 - 2 * 3);
  EXPECT_EQ(job[1].counters().remote_reads, 2u * 3);
}

TEST(VerbsLane, PayloadsOfSeveralPacketsStayWholeWhileRailsComeAndGoAndQueuesAreFull) {
  constexpr int kMessages = 120;
  constexpr size_t kBytes = 3 * kPacket - 50;
  Job job(kTwoRails, 2, kLongEager);
  exchange(job, 1, 100);
  std::deque<MessageBytes> messages;
  std::deque<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  for (uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
  for (uint32_t i = 0; i < kMessages; ++i) {
    if (i % 7 == 3) job.fabric().fail(Step::kPostSend, i % 5, 2, ENOMEM);
    if (i % 40 == 20) job.fabric().set_port(static_cast<int>(i / 40 % 2), 0, false);
    if (i % 40 == 39) {
      job.fabric().set_port(0, 0, true);
      job.fabric().set_port(1, 0, true);
      const auto later = now_ns() + 300'000'000u;
      run(job, [&] { return now_ns() > later; });
    }
    operations.push_back(&job[0].send(1, 2, messages.emplace_back(i, kBytes).buffer()));
    if (i % 2 == 0) job[1].progress();
  }
  ASSERT_TRUE(run(job, [&] {
    return std::ranges::all_of(operations, [](const Operation* one) { return one->done != 0; });
  }));
  for (uint32_t i = 0; i < kMessages; ++i)
    targets[i].expect(i, kBytes);
  EXPECT_EQ(job[1].counters().packets_rejected, 0u);
  EXPECT_EQ(job.fabric().counters().receiver_not_ready, 0u);
}

TEST(VerbsLane, MoreThanThereAreBounceBuffersForAreRegistered) {
  constexpr size_t kBytes = 50'000;
  constexpr size_t kMessages = 300;
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  std::deque<MessageBytes> messages;
  std::deque<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  for (uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[0].send(1, 2, messages.emplace_back(i, kBytes).buffer()));
  for (uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
  ASSERT_TRUE(run(job, [&] {
    return std::ranges::all_of(operations, [](const Operation* one) { return one->done != 0; });
  }));
  for (uint32_t i = 0; i < kMessages; ++i)
    targets[i].expect(i, kBytes);
  EXPECT_EQ(job[1].counters().remote_reads, kMessages);
  for (size_t i = 0; i < operations.size(); ++i)
    job[i < kMessages ? 0 : 1].release(*operations[i]);
}

TEST(VerbsLane, WithoutMemoryForBounceBuffersAMessageIsRegistered) {
  Job job(kOneRail, 2);
  exchange(job, 1, 100);
  job.fabric().fail(Step::kRegisterMemory, 0, 1, ENOMEM);  // those of the sender
  exchange(job, 2, 40'000);
  exchange(job, 3, 40'000);
  EXPECT_EQ(job[1].counters().remote_reads, 2u);
}

TEST(VerbsLane, ARailThatFailsInMidMessageIsLeftAndTheMessageArrivesWhole) {
  for (int end = 0; end < 2; ++end) {
    Job job(kTwoRails, 2);
    exchange(job, 1, 100);
    constexpr size_t kBytes = 2'000'000;
    MessageBytes message(2, kBytes);
    GuardedBuffer target(kBytes);
    job.fabric().hold(true);
    Operation& receive = job[1].receive(0, 2, target.buffer());
    Operation& send = job[0].send(1, 2, message.buffer());
    const uint64_t before = job.fabric().counters().reads;
    ASSERT_TRUE(run(job, [&] {
      job.fabric().let_go(1);
      return job.fabric().counters().reads >= before + 20;
    }));
    ASSERT_FALSE(receive.done);
    job.fabric().set_port(end, 0, false);
    job.fabric().hold(false);
    ASSERT_TRUE(run(job, [&] { return send.done && receive.done; }));
    EXPECT_EQ(receive.completion.error, Error::kNone);
    target.expect(2, kBytes);
    EXPECT_EQ(job[1].counters().remote_reads, 1u) << "read to its end, not streamed";
    // Up again, it carries messages when the other one is down.
    job.fabric().set_port(end, 0, true);
    exchange(job, 3, 300'000);
    const auto later = now_ns() + 1'500'000'000u;
    run(job, [&] { return now_ns() > later; });
    job.fabric().set_port(end, 1, false);
    exchange(job, 4, 300'000);
    exchange(job, 5, 100);
  }
}

TEST(VerbsLane, SmallMessagesStayInOrderAndArriveOnceWhileRailsComeAndGo) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 8);
  constexpr int kMessages = 600;
  std::vector<uint32_t> sent(kMessages);
  std::vector<uint32_t> received(kMessages);
  std::vector<Operation*> operations;
  for (int i = 0; i < kMessages; ++i) {
    sent[i] = static_cast<uint32_t>(i) * 7919;
    operations.push_back(
        &job[1].receive(0, 9, {reinterpret_cast<std::byte*>(&received[i]), sizeof(uint32_t)}));
  }
  for (int i = 0; i < kMessages; ++i) {
    if (i % 100 == 50) job.fabric().set_port(i / 100 % 2, i / 200 % 2, false);
    if (i % 100 == 99) {
      for (int rail = 0; rail < 2; ++rail) {
        job.fabric().set_port(0, rail, true);
        job.fabric().set_port(1, rail, true);
      }
      const auto later = now_ns() + 300'000'000u;
      run(job, [&] { return now_ns() > later; });
    }
    operations.push_back(
        &job[0].send(1, 9, {reinterpret_cast<std::byte*>(&sent[i]), sizeof(uint32_t)}));
    if (i % 3 == 0) job[1].progress();
  }
  ASSERT_TRUE(run(job, [&] {
    for (const Operation* operation : operations) {
      if (!operation->done) return false;
    }
    return true;
  }));
  EXPECT_EQ(received, sent);
  EXPECT_EQ(job[1].unexpected_bytes(), 0u) << "a message came twice";
  EXPECT_EQ(job.fabric().counters().receiver_not_ready, 0u);
}

TEST(VerbsLane, WithoutAnyRailWhatIsPendingFailsAndNothingHangs) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  MessageBytes message(2, 1'000'000);
  GuardedBuffer target(1000);
  Operation& send = job[0].send(1, 2, message.buffer());
  Operation& receive = job[0].receive(1, 3, target.buffer());
  job.fabric().set_port(1, 0, false);
  job.fabric().set_port(1, 1, false);
  ASSERT_TRUE(run(job, [&] { return send.done && receive.done; }));
  EXPECT_EQ(send.completion.error, Error::kPathLost);
  EXPECT_EQ(receive.completion.error, Error::kPathLost);
  job.close();
  EXPECT_EQ(job.fabric().live(), 0u);
}

TEST(VerbsLane, AllPeersMayBeLostAtOnceWhileMuchIsUnderWay) {
  constexpr int kPeers = 3;
  Job job(kTwoRails, 1 + kPeers);
  constexpr size_t kBytes = 400'000;
  MessageBytes message(2, kBytes);
  std::vector<GuardedBuffer> targets;
  for (int peer = 1; peer <= kPeers; ++peer) {
    for (int i = 0; i < 4; ++i)
      targets.emplace_back(kBytes);
  }
  for (int peer = 1; peer <= kPeers; ++peer) {
    Operation& receive = job[peer].receive(0, 1, targets[0].buffer());
    Operation& send = job[0].send(peer, 1, Buffer{message.buffer().address, 10});
    ASSERT_TRUE(run(job, [&] { return send.done && receive.done; }));
  }
  // Reads of rank 0, reads from it, packets and receives without a message.
  std::vector<Operation*> operations;
  job.fabric().hold(true);
  for (int peer = 1; peer <= kPeers; ++peer) {
    const auto target = [&](int i) {
      return targets[static_cast<size_t>(4 * peer - 4 + i)].buffer();
    };
    job[peer].send(0, 2, message.buffer());
    operations.push_back(&job[0].receive(peer, 2, target(0)));
    job[peer].receive(0, 3, target(1));
    operations.push_back(&job[0].send(peer, 3, message.buffer()));
    operations.push_back(&job[0].receive(peer, 4, target(2)));
  }
  for (int turn = 0; turn < 200; ++turn) {
    job.fabric().let_go(1);
    for (int rank = 0; rank < job.size(); ++rank)
      job[rank].progress();
  }
  for (int rail = 0; rail < 2; ++rail)
    job.fabric().set_port(0, rail, false);
  job.fabric().hold(false);
  ASSERT_TRUE(run(job, [&] {
    return std::ranges::all_of(operations, [](const Operation* one) { return one->done != 0; });
  }));
  int failed = 0;
  for (const Operation* operation : operations)
    failed += operation->completion.error == Error::kPathLost;
  EXPECT_GE(failed, kPeers);
  job.close();
  EXPECT_EQ(job.fabric().live(), 0u);
}

TEST(VerbsLane, AMessageThatMayNotBeReadIsStreamed) {
  Job job(kOneRail, 2);
  exchange(job, 1, 100);
  job.fabric().fail(Step::kRegisterMemory, 0, 1, ENOMEM);  // the sender's buffer
  exchange(job, 2, 200'000);
  EXPECT_EQ(job[1].counters().remote_reads, 0u);
  job.fabric().fail(Step::kRegisterMemory, 1, 1, ENOMEM);  // the receiver's
  exchange(job, 3, 200'000);
  EXPECT_EQ(job[1].counters().remote_reads, 0u);
  exchange(job, 4, 200'000);
  EXPECT_EQ(job[1].counters().remote_reads, 1u);
}

TEST(VerbsLane, ARefusedReadIsStreamedOverANewConnection) {
  Job job(kOneRail, 2);
  exchange(job, 1, 100);
  job.fabric().fail_completions(3, 1, Status::kRemoteAccess);
  exchange(job, 2, 500'000);
  exchange(job, 3, 500'000);
}

TEST(VerbsLane, LostCompletionsAreMadeUpForByLaterOnes) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  job.fabric().lose_completions(4);
  exchange(job, 2, 500'000);
  exchange(job, 3, 100);
}

TEST(VerbsLane, AQueueThatIsFullForAWhileOnlyDelays) {
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  for (uint64_t skip = 0; skip < 6; ++skip) {
    job.fabric().fail(Step::kPostSend, skip, 3, ENOMEM);
    exchange(job, 2 + static_cast<uint32_t>(skip), 300'000);
  }
}

// One failure, at every call of a step in turn.
class OneFailure : public ::testing::TestWithParam<Step> {};

TEST_P(OneFailure, OnOneOfTwoRailsCostsNoMessageAndLeavesNothingOpen) {
  uint64_t calls = 1;
  for (uint64_t skip = 0; skip < std::min<uint64_t>(calls, 30); ++skip) {
    SCOPED_TRACE(skip);
    Job job(kTwoRails, 2, {}, [&](FakeFabric& fabric) { fabric.fail(GetParam(), skip, 1, EIO); });
    exchange(job, 1, 100);
    exchange(job, 2, 100'000);
    exchange(job, 3, 10'000);
    exchange(job, 4, 50'000);
    calls = job.fabric().calls(GetParam());
    job.close();
    ASSERT_EQ(job.fabric().live(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, OneFailure,
                         ::testing::Values(Step::kOpen, Step::kRegisterMemory,
                                           Step::kCreateCompletionQueue,
                                           Step::kCreateSharedReceiveQueue, Step::kCreateQueuePair,
                                           Step::kCreateAddressHandle, Step::kConnect,
                                           Step::kPostSend, Step::kPostReceive, Step::kPoll),
                         [](const auto& test) {
                           return "Step" + std::to_string(static_cast<int>(test.param));
                         });

}  // namespace
}  // namespace mooncake_mpi::testing
