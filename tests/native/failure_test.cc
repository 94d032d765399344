// What is left of messages when a process ends at any point of them, over every lane. One thread
// plays every rank.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "effort.h"
#include "lanes.h"

namespace mooncake_mpi::testing {
namespace {

class Failures : public OverEveryLane {
 protected:
  void expect_nothing_pending(Job& job, int rank) {
    EXPECT_TRUE(job.run_until([&] {
      bool pending = true;
      job[rank].inspect([&](Protocol& protocol) {
        pending = protocol.operations().live() != 0 || protocol.unfinished();
      });
      return !pending;
    }));
  }
  // The other pairs go on.
  void exchange(Job& job, int from, int to, std::size_t bytes) {
    MessageBytes message(99, bytes);
    GuardedBuffer target(bytes);
    Operation& receive = job[to].receive(from, 77, target.buffer());
    Operation& send = job[from].send(to, 77, message.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    EXPECT_EQ(send.completion.error, Error::kNone);
    EXPECT_EQ(receive.completion.error, Error::kNone);
    target.expect(99, bytes);
    job[from].release(send);
    job[to].release(receive);
  }
};

constexpr std::size_t kSizes[] = {0, 100, 5000, 40'000, 700'001};

TEST_P(Failures, AtAnyStepOfAMessageTheOtherSideEndsAndNothingElseSuffers) {
  for (const std::size_t bytes : kSizes) {
    for (const SendMode mode : {SendMode::kStandard, SendMode::kSynchronous}) {
      for (const bool sender_dies : {true, false}) {
        for (int steps = 0; steps < 24; steps += 1 + steps / (kSanitized ? 1 : 3)) {
          SCOPED_TRACE(::testing::Message() << bytes << " bytes, sender dies: " << sender_dies
                                            << ", after " << steps << " steps");
          MessageBytes message(3, bytes);
          GuardedBuffer target(bytes);
          Job job(GetParam(), 3);
          Operation& receive = job[1].receive(0, 5, target.buffer());
          Operation& send = job[0].send(1, 5, message.buffer(), mode);
          for (int i = 0; i < steps; ++i)
            job.step();
          job.kill(sender_dies ? 0 : 1);
          Operation& survivor = sender_dies ? receive : send;
          ASSERT_TRUE(job.finish({&survivor})) << "hangs";
          if (survivor.completion.error == Error::kNone) {
            if (sender_dies) target.expect(3, bytes);
          } else {
            EXPECT_EQ(survivor.completion.error, Error::kProcessFailed);
            EXPECT_EQ(sender_dies ? survivor.completion.source : survivor.completion.dest,
                      sender_dies ? 0 : 1);
          }
          // A dead receiver's threads are not: what they write is nobody's.
          const Bytes received = sender_dies ? target.bytes() : Bytes();
          const std::vector<std::byte> as_it_was(received.begin(), received.end());
          const int alive = sender_dies ? 1 : 0;
          job[alive].release(survivor);
          exchange(job, alive, 2, 100);
          exchange(job, 2, alive, 300'000);
          expect_nothing_pending(job, alive);
          job.settle(Job::kFewRounds);
          EXPECT_TRUE(std::equal(as_it_was.begin(), as_it_was.end(), received.begin()))
              << "the buffer was written after its receive had ended";
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(Failures, WhatWasSentWholeBeforeTheEndIsReceived) {
  if (GetParam().send_device) return;  // what a device has is announced, and not sent at once
  Job job(GetParam(), 2);
  MessageBytes early(1, 60);
  MessageBytes late(2, 50);
  Operation& first = job[0].send(1, 5, early.buffer());
  job.settle();
  bool second = false;
  for (const auto until = now_ns() + 20'000'000'000u; !second && now_ns() < until;) {
    job.settle();  // a lane may be connecting, or have no room at the moment
    // A rough one stalls at every so many calls, which may be those after all that a turn makes.
    for (int again = 0; again < 5 && !second; ++again)
      second = job[0].try_send_now(1, 6, late.buffer());
  }
  if (GetParam().rough) job.settle();  // a part of it may not have gone yet
  job.kill(0);
  GuardedBuffer target(60);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  ASSERT_TRUE(job.finish({&receive}));
  EXPECT_EQ(receive.completion.error, Error::kNone);
  target.expect(1, 60);
  ASSERT_TRUE(second);
  GuardedBuffer other(50);
  Operation& also = job[1].receive(kAnySource, kAnyTag, other.buffer());
  ASSERT_TRUE(job.finish({&also}));
  EXPECT_EQ(also.completion.error, Error::kNone);
  other.expect(2, 50);
  job[0].release(first);
  job[1].release(receive);
  job[1].release(also);
}

TEST_P(Failures, ALargeMessageAnnouncedBeforeTheEndRaisesWhenItIsReceived) {
  Job job(GetParam(), 2);
  MessageBytes message(1, 200'000);
  Operation& send = job[0].send(1, 5, message.buffer());
  ASSERT_TRUE(job.run_until([&] { return job[1].unexpected_count() != 0; }));
  job.settle();
  job.kill(0);
  GuardedBuffer target(200'000);
  Operation& receive = job[1].receive(kAnySource, 5, target.buffer());
  ASSERT_TRUE(job.finish({&receive}));
  EXPECT_EQ(receive.completion.error, Error::kProcessFailed);
  EXPECT_EQ(receive.completion.source, 0);
  EXPECT_EQ(receive.completion.bytes, 0u);
  target.expect(0, 0);
  job[1].release(receive);
  (void)send;
}

TEST_P(Failures, LaterCallsFailAtOnce) {
  Job job(GetParam(), 3);
  job.kill(2);
  MessageBytes message(1, 10);
  GuardedBuffer target(10);
  EXPECT_FALSE(job[0].try_send_now(2, 5, message.buffer()));
  Operation& send = job[0].send(2, 5, message.buffer());
  Operation& receive = job[0].receive(2, 5, target.buffer());
  EXPECT_TRUE(send.done);
  EXPECT_TRUE(receive.done);
  EXPECT_EQ(send.completion.error, Error::kProcessFailed);
  EXPECT_EQ(send.completion.dest, 2);
  EXPECT_EQ(receive.completion.error, Error::kProcessFailed);
  EXPECT_EQ(receive.completion.source, 2);
  job[0].release(send);
  job[0].release(receive);
  expect_nothing_pending(job, 0);
}

TEST_P(Failures, ReceivesFromAnySourceAreInterruptedUntilAcknowledged) {
  Job job(GetParam(), 3);
  GuardedBuffer early(10);
  GuardedBuffer late(10);
  Operation& posted = job[0].receive(kAnySource, 5, early.buffer());
  job.kill(2);
  EXPECT_EQ(posted.done, Operation::kInterrupted);
  Operation& after = job[0].receive(kAnySource, 6, late.buffer());
  EXPECT_EQ(after.done, Operation::kInterrupted);
  EXPECT_EQ(job[0].acknowledge(0), 0u);
  EXPECT_EQ(posted.done, Operation::kInterrupted);
  EXPECT_EQ(job[0].acknowledge(3), 1u);
  EXPECT_EQ(posted.done, 0);
  EXPECT_EQ(after.done, 0);

  MessageBytes message(4, 10);
  Operation& send = job[1].send(0, 5, message.buffer());
  ASSERT_TRUE(job.finish({&posted, &send}));
  EXPECT_EQ(posted.done, Operation::kFinished);
  early.expect(4, 10);
  EXPECT_TRUE(job[0].cancel(after));
  job[0].release(posted);
  job[0].release(after);
  job[1].release(send);
  expect_nothing_pending(job, 0);
}

TEST_P(Failures, AnInterruptedReceiveStillTakesItsMessage) {
  Job job(GetParam(), 3);
  GuardedBuffer target(10);
  Operation& posted = job[0].receive(kAnySource, 5, target.buffer());
  job.kill(2);
  MessageBytes message(4, 10);
  Operation& send = job[1].send(0, 5, message.buffer());
  ASSERT_TRUE(job.run_until([&] { return posted.done != 0; }));
  job.settle();
  EXPECT_EQ(posted.done, Operation::kFinished);
  EXPECT_EQ(posted.completion.error, Error::kNone);
  target.expect(4, 10);
  job[0].release(posted);
  job[1].release(send);
}

TEST_P(Failures, CreditsHeldByAProcessThatEndedCostTheOthersNothing) {
  ProtocolLimits limits;
  limits.unexpected_bytes = 4096;
  Job job(GetParam(), 3, limits);
  std::vector<Operation*> sends;
  MessageBytes message(1, 1000);
  for (int i = 0; i < 50; ++i)
    sends.push_back(&job[0].send(2, i, message.buffer()));
  job.settle();
  job.kill(2);
  ASSERT_TRUE(job.finish(sends));
  for (Operation* send : sends)
    job[0].release(*send);
  for (int i = 0; i < 50; ++i)
    exchange(job, 0, 1, 1000);
  expect_nothing_pending(job, 0);
}

TEST_P(Failures, ARevokedCommunicatorEndsWhatWaitsAndRefusesTheRest) {
  Job job(GetParam(), 2);
  GuardedBuffer target(10);
  MessageBytes large(1, 300'000);
  MessageBytes small(2, 10);
  Operation& posted = job[0].receive(kAnySource, 5, target.buffer());
  Operation& announced = job[1].send(0, 9, large.buffer());
  Operation& synchronous = job[1].send(0, 8, small.buffer(), SendMode::kSynchronous);
  job.settle();
  if (GetParam().kind == Lane::Kind::kVerbs || GetParam().kind == Lane::Kind::kTcp ||
      GetParam().kind == Lane::Kind::kTcpFake) {  // which have to make their way there first
    ASSERT_TRUE(job.run_until([&] { return job[0].context().unexpected_count() == 2; }));
  }
  job[0].revoke();
  EXPECT_TRUE(posted.done);
  EXPECT_EQ(posted.completion.error, Error::kRevoked);
  ASSERT_TRUE(job.finish({&announced, &synchronous})) << "the receiver refuses them";
  EXPECT_EQ(announced.completion.error, Error::kRevoked);
  EXPECT_EQ(synchronous.completion.error, Error::kRevoked);
  EXPECT_TRUE(job[1].context().revoked) << "the refusals tell, if the notice has not come yet";
  Operation& later = job[0].receive(1, 5, target.buffer());
  EXPECT_EQ(later.completion.error, Error::kRevoked);
  job[0].release(posted);
  job[0].release(later);
  job[1].release(announced);
  job[1].release(synchronous);
  job.settle();
  expect_nothing_pending(job, 0);
  expect_nothing_pending(job, 1);
}

INSTANTIATE_TEST_SUITE_P(Lanes, Failures, ::testing::ValuesIn(kLanes), lane_name);

TEST(Revocation, IsToldToEveryMember) {
  Job job(kLanes[0], 3);
  job[1].revoke();
  job.settle();
  for (const int rank : {0, 1, 2})
    EXPECT_TRUE(job[rank].context().revoked);
}

}  // namespace
}  // namespace mooncake_mpi::testing
