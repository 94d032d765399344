// Requests, registrations and completions that fail: a message arrives whole, and nothing is left
// open. One thread plays every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "party.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

using verbs_driver::FakeFabric;
using verbs_driver::Status;
using verbs_driver::Step;

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
  for (std::uint64_t skip = 0; skip < 6; ++skip) {
    job.fabric().fail(Step::kPostSend, skip, 3, ENOMEM);
    exchange(job, 2 + static_cast<std::uint32_t>(skip), 300'000);
  }
}

// One failure, at every call of a step in turn.
class OneFailure : public ::testing::TestWithParam<Step> {};

TEST_P(OneFailure, OnOneOfTwoRailsCostsNoMessageAndLeavesNothingOpen) {
  std::uint64_t calls = 1;
  for (std::uint64_t skip = 0; skip < std::min<std::uint64_t>(calls, 30); ++skip) {
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
