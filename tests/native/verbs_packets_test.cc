// Eager messages of several packets over the verbs lane arrive whole. One thread plays every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "party.h"
#include "transport/verbs/config.h"
#include "verbs_job.h"
#include "wire/verbs.h"

namespace mooncake_mpi::testing {
namespace {

using verbs_driver::Step;

constexpr ProtocolLimits kLongEager{
    .eager_bytes = 64 * 1024, .far_eager_bytes = 64 * 1024, .copy = {}};
constexpr std::size_t kPacket = verbs::kPacketBytes - wire::kPacketHeadBytes;

TEST(VerbsLane, AnEagerMessageMayTakeSeveralPackets) {
  Job job(kTwoRails, 2, kLongEager);
  exchange(job, 1, 100);
  std::uint32_t seed = 2;
  for (const std::size_t packets : {1, 2, 3, 4}) {
    for (const int more : {-17, -16, -1, 0, 1}) {
      const std::size_t bytes = packets * kPacket + static_cast<std::size_t>(more);
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
  constexpr std::size_t kBytes = 3 * kPacket - 50;
  Job job(kTwoRails, 2, kLongEager);
  exchange(job, 1, 100);
  std::deque<MessageBytes> messages;
  std::deque<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  for (std::uint32_t i = 0; i < kMessages; ++i)
    operations.push_back(&job[1].receive(0, 2, targets.emplace_back(kBytes).buffer()));
  for (std::uint32_t i = 0; i < kMessages; ++i) {
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
  for (std::uint32_t i = 0; i < kMessages; ++i)
    targets[i].expect(i, kBytes);
  EXPECT_EQ(job[1].counters().packets_rejected, 0u);
  EXPECT_EQ(job.fabric().counters().receiver_not_ready, 0u);
}

}  // namespace
}  // namespace mooncake_mpi::testing
