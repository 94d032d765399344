// Messages that are read over RDMA: the memory that is registered for them, once where that is
// possible, and bounce buffers. One thread plays every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <vector>

#include "party.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

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

TEST(VerbsLane, MessagesOfTheSameBytesShareARegistrationUntilTheLastOfThemIsOver) {
  constexpr std::uint64_t kMessages = 6;
  constexpr std::size_t kBytes = 300'000;
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  const auto registered = [&] { return job.fabric().calls(Step::kRegisterMemory); };
  const std::size_t open = job.fabric().live();
  MessageBytes message(2, kBytes);
  for (int round = 0; round < 2; ++round) {
    const std::uint64_t before = registered();
    std::vector<Operation*> operations;
    std::deque<GuardedBuffer> targets;
    for (std::uint64_t i = 0; i < kMessages; ++i)
      operations.push_back(&job[0].send(1, 2, message.buffer()));
    EXPECT_EQ(registered() - before, 2u) << "with each rail once, round " << round;
    for (std::uint64_t i = 0; i < kMessages; ++i)
      operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
    ASSERT_TRUE(run(job, [&] {
      return std::all_of(operations.begin(), operations.end(),
                         [](const Operation* operation) { return operation->done != 0; });
    }));
    EXPECT_EQ(registered() - before, 2u + 2u * kMessages) << "those read into are others";
    EXPECT_EQ(job.fabric().live(), open) << "nothing stays open to the peer";
    for (const GuardedBuffer& target : targets)
      target.expect(2, kBytes);
    for (std::size_t i = 0; i < operations.size(); ++i)
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
  for (std::uint32_t seed = 2; seed < 5; ++seed)
    exchange(job, seed, 300'000);  // from then on at the same addresses
  const std::uint64_t before = registered();
  for (std::uint32_t seed = 5; seed < 20; ++seed)
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
  const std::uint64_t before = job.fabric().calls(Step::kRegisterMemory);
  const std::size_t open = job.fabric().live();
  for (std::uint32_t seed = 2; seed < 20; ++seed)
    exchange(job, seed, seed % 2 == 0 ? 64 * 1024 : 33'000 + seed);
  EXPECT_EQ(job.fabric().calls(Step::kRegisterMemory), before);
  EXPECT_EQ(job.fabric().live(), open);
  EXPECT_EQ(job[1].counters().remote_reads, 19u);
}

TEST(VerbsLane, MoreThanThereAreBounceBuffersForAreRegistered) {
  constexpr std::size_t kBytes = 50'000;
  constexpr std::size_t kMessages = 300;
  Job job(kTwoRails, 2);
  exchange(job, 1, 100);
  std::deque<MessageBytes> messages;
  std::deque<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  for (std::uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[0].send(1, 2, messages.emplace_back(i, kBytes).buffer()));
  for (std::uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
  ASSERT_TRUE(run(job, [&] {
    return std::ranges::all_of(operations, [](const Operation* one) { return one->done != 0; });
  }));
  for (std::uint32_t i = 0; i < kMessages; ++i)
    targets[i].expect(i, kBytes);
  EXPECT_EQ(job[1].counters().remote_reads, kMessages);
  for (std::size_t i = 0; i < operations.size(); ++i)
    job[i < kMessages ? 0 : 1].release(*operations[i]);
}

// The receive of a message of 3 MB when some of it has been read, into memory of the engine or not.
struct HalfRead {
  explicit HalfRead(bool any_size) : job(kOneRail, 2) {
    exchange(job, 1, 100);
    send = &job[0].send(1, 2, message.buffer());
    receive = any_size ? &job[1].receive_any_size(0, 2) : &job[1].receive(0, 2, target.buffer());
    EXPECT_TRUE(run(job, [&] { return receive->stage == Operation::Stage::kMoving; }));
    for (int turn = 0; turn < 3; ++turn)
      job[1].progress();
  }

  bool give_up() {
    bool left = false;
    job[1].inspect([&](Protocol& protocol) { left = protocol.give_up(*receive); });
    return left;
  }

  // Received anew, it is whole.
  void finish() {
    GuardedBuffer again(kBytes);
    Operation& second = job[1].receive(0, 2, again.buffer());
    ASSERT_TRUE(run(job, [&] { return send->done && second.done; }));
    EXPECT_EQ(second.completion.error, Error::kNone);
    again.expect(2, kBytes);
    job[0].release(*send);
    job[1].release(second);
    exchange(job, 3, kBytes);
  }

  static constexpr std::size_t kBytes = 3'000'000;
  Job job;
  MessageBytes message{2, kBytes};
  GuardedBuffer target{kBytes};
  Operation* send = nullptr;
  Operation* receive = nullptr;
};

TEST(VerbsLane, AReceiveIsLeftBeforeAllOfItsMessageHasBeenRead) {
  HalfRead half(false);
  ASSERT_EQ(half.receive->stage, Operation::Stage::kMoving);
  EXPECT_FALSE(half.give_up()) << "the adapter still writes";
  ASSERT_TRUE(run(half.job, [&] { return half.give_up(); }));
  EXPECT_EQ(half.job[1].counters().remote_reads, 0u) << "not to its end";
  const std::vector<std::byte> left(half.target.buffer().address,
                                    half.target.buffer().address + HalfRead::kBytes);
  half.finish();
  EXPECT_TRUE(std::equal(left.begin(), left.end(), half.target.buffer().address))
      << "written after it was left";
}

TEST(VerbsLane, WhatIsReadIntoTheEnginesMemoryIsLeftAtOnce) {
  HalfRead half(true);
  ASSERT_EQ(half.receive->stage, Operation::Stage::kMoving);
  EXPECT_TRUE(half.give_up());
  half.finish();
  EXPECT_EQ(half.job[1].counters().remote_reads, 2u) << "goes on";
}

TEST(VerbsLane, WithoutMemoryForBounceBuffersAMessageIsRegistered) {
  Job job(kOneRail, 2);
  exchange(job, 1, 100);
  job.fabric().fail(Step::kRegisterMemory, 0, 1, ENOMEM);  // those of the sender
  exchange(job, 2, 40'000);
  exchange(job, 3, 40'000);
  EXPECT_EQ(job[1].counters().remote_reads, 2u);
}

}  // namespace
}  // namespace mooncake_mpi::testing
