// Rails that fail, recover or are all gone: a message arrives once and whole, or its operations end
// with an error. One thread plays every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "party.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

TEST(VerbsLane, APortThatIsUpAndReachesNobodyCarriesNothing) {
  Job job(kTwoRails, 2);
  job.fabric().cut(1);
  const auto troubled = [&] {
    return !job[0].path_troubles(1).empty() && !job[1].path_troubles(0).empty();
  };
  bool always = true;
  const auto end = now_ns() + 500'000'000u;  // paths are tried again after 100 ms
  for (std::uint32_t message = 1; now_ns() < end; ++message) {
    exchange(job, message, 200'000);
    always &= message == 1 || troubled();
  }
  EXPECT_TRUE(always) << "it was used again without having proved to reach the peer";
  EXPECT_EQ(job.fabric().counters().cut_off, 0u);
  job.fabric().cut(-1);
  EXPECT_TRUE(
      run(job, [&] { return job[0].path_troubles(1).empty() && job[1].path_troubles(0).empty(); }));
}

TEST(VerbsLane, ARailThatFailsInMidMessageIsLeftAndTheMessageArrivesWhole) {
  for (int end = 0; end < 2; ++end) {
    Job job(kTwoRails, 2);
    exchange(job, 1, 100);
    constexpr std::size_t kBytes = 2'000'000;
    MessageBytes message(2, kBytes);
    GuardedBuffer target(kBytes);
    job.fabric().hold(true);
    Operation& receive = job[1].receive(0, 2, target.buffer());
    Operation& send = job[0].send(1, 2, message.buffer());
    const std::uint64_t before = job.fabric().counters().reads;
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
  std::vector<std::uint32_t> sent(kMessages);
  std::vector<std::uint32_t> received(kMessages);
  std::vector<Operation*> operations;
  for (int i = 0; i < kMessages; ++i) {
    sent[i] = static_cast<std::uint32_t>(i) * 7919;
    operations.push_back(
        &job[1].receive(0, 9, {reinterpret_cast<std::byte*>(&received[i]), sizeof(std::uint32_t)}));
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
        &job[0].send(1, 9, {reinterpret_cast<std::byte*>(&sent[i]), sizeof(std::uint32_t)}));
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
  constexpr std::size_t kBytes = 400'000;
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
      return targets[static_cast<std::size_t>(4 * peer - 4 + i)].buffer();
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

}  // namespace
}  // namespace mooncake_mpi::testing
