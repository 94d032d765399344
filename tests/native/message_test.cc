// What a program sees of messages, over every lane: sizes, order, truncation, modes, cancel, probe.
// One thread plays every rank.
#include <cstring>
#include <random>
#include <string_view>
#include <vector>

#include "effort.h"
#include "lanes.h"

namespace mooncake_mpi::testing {
namespace {

class Messages : public OverEveryLane {
 protected:
  // Sends `bytes` bytes into a buffer of `room`, receive or send first, and checks all of it.
  void exchange(Job& job, std::size_t bytes, std::size_t room, bool receive_first, SendMode mode) {
    const auto seed = static_cast<std::uint32_t>(bytes * 2 + receive_first);
    MessageBytes message(seed, bytes);
    GuardedBuffer target(room);
    Operation* receive = nullptr;
    if (receive_first) receive = &job[1].receive(0, 5, target.buffer());
    Operation& send = job[0].send(1, 5, message.buffer(), mode);
    if (!receive_first) {
      ASSERT_TRUE(job.run_until([&] { return job[1].unexpected_count() != 0; }));
      receive = &job[1].receive(0, 5, target.buffer());
    }
    ASSERT_TRUE(job.finish({&send, receive})) << bytes << " bytes hang";
    EXPECT_EQ(send.completion.error, Error::kNone);
    EXPECT_EQ(receive->completion.error, room < bytes ? Error::kTruncate : Error::kNone);
    EXPECT_EQ(receive->completion.source, 0);
    EXPECT_EQ(receive->completion.tag, 5);
    EXPECT_EQ(receive->completion.bytes, std::min(room, bytes));
    target.expect(seed, std::min(room, bytes));
    job[0].release(send);
    job[1].release(*receive);
  }
};

constexpr std::size_t kSizes[] = {0,         1,         7,         88,       95,      96,
                                  97,        100,       1000,      8 * 1024, 8193,    16 * 1024,
                                  32 * 1024, 32769,     65536,     100'003,  262'144, 262'145,
                                  524'288,   1'000'001, 2'097'152, 3'000'017};

// Every second where each costs much, which ones depends on the lane.
std::vector<std::size_t> sizes_over(const Lane& lane) {
  std::vector<std::size_t> sizes;
  const std::size_t first = kSanitized ? std::string_view(lane.name).size() % 2 : 0;
  for (std::size_t i = first; i < std::size(kSizes); i += kSanitized ? 2 : 1)
    sizes.push_back(kSizes[i]);
  return sizes;
}

TEST_P(Messages, OfEverySizeArriveUnchanged) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : sizes_over(GetParam())) {
    for (const bool receive_first : {true, false}) {
      ASSERT_NO_FATAL_FAILURE(exchange(job, bytes, bytes, receive_first, SendMode::kStandard));
      ASSERT_NO_FATAL_FAILURE(exchange(job, bytes, bytes + 33, receive_first, SendMode::kStandard));
      ASSERT_NO_FATAL_FAILURE(exchange(job, bytes, bytes, receive_first, SendMode::kSynchronous));
    }
  }
}

TEST_P(Messages, LongerThanTheirReceiveAreTruncatedAndNothingElseSuffers) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : sizes_over(GetParam())) {
    for (const std::size_t room :
         {std::size_t{0}, bytes / 3, bytes - std::min<std::size_t>(bytes, 1)}) {
      if (room >= bytes) continue;
      for (const bool receive_first : {true, false}) {
        ASSERT_NO_FATAL_FAILURE(exchange(job, bytes, room, receive_first, SendMode::kStandard));
        ASSERT_NO_FATAL_FAILURE(exchange(job, bytes, room, receive_first, SendMode::kSynchronous));
      }
      ASSERT_NO_FATAL_FAILURE(exchange(job, 100, 100, false, SendMode::kStandard));
    }
  }
}

TEST_P(Messages, OfMixedSizesKeepTheirOrder) {
  Job job(GetParam(), 2);
  constexpr int kCount = 300;
  std::mt19937 random(3);
  std::vector<MessageBytes> messages;
  std::vector<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const std::size_t bytes = kSizes[random() % 15];
    messages.emplace_back(i, bytes);
    targets.emplace_back(bytes);
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    operations.push_back(&job[0].send(1, 0, messages[i].buffer()));
    if (random() % 4 == 0) job[1].progress();
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    operations.push_back(&job[1].receive(i % 2 == 0 ? 0 : kAnySource, i % 3 == 0 ? kAnyTag : 0,
                                         targets[i].buffer()));
    if (random() % 4 == 0) job[0].progress();
  }
  ASSERT_TRUE(job.finish(operations));
  for (std::uint32_t i = 0; i < kCount; ++i)
    targets[i].expect(i, targets[i].bytes().size());
}

// Between the two eager limits the receiver's advice changes while messages are under way.
TEST_P(Messages, KeepTheirOrderWhileTheSenderIsAdvisedAnew) {
  Job job(GetParam(), 2);
  constexpr std::size_t kBytes = 20 * 1024;
  constexpr std::uint32_t kWindow = 8;
  const std::uint32_t windows = kSanitized ? 12 : 40;
  for (std::uint32_t window = 0; window < windows; ++window) {
    const bool early = window % 16 == 15;  // before its receives
    std::vector<MessageBytes> messages;
    std::vector<GuardedBuffer> targets;
    std::vector<Operation*> operations;
    messages.reserve(kWindow);
    targets.reserve(kWindow);
    const auto receive = [&](std::uint32_t i) {
      const std::size_t room = i == 3 ? kBytes / 2 : kBytes;
      targets.emplace_back(room);
      operations.push_back(&job[1].receive(0, 5, targets.back().buffer()));
    };
    for (std::uint32_t i = 0; i < kWindow && !early; ++i)
      receive(i);
    for (std::uint32_t i = 0; i < kWindow; ++i) {
      messages.emplace_back(window * kWindow + i, kBytes);
      const SendMode mode = i == 5 ? SendMode::kSynchronous : SendMode::kStandard;
      operations.push_back(&job[0].send(1, 5, messages.back().buffer(), mode));
    }
    if (early) {
      ASSERT_TRUE(job.run_until([&] { return job[1].unexpected_count() != 0; }));
    }
    for (std::uint32_t i = 0; i < kWindow && early; ++i)
      receive(i);
    ASSERT_TRUE(job.finish(operations)) << "window " << window << " hangs";
    for (std::uint32_t i = 0; i < kWindow; ++i)
      targets[i].expect(window * kWindow + i, i == 3 ? kBytes / 2 : kBytes);
    for (Operation* operation : operations)
      job[operation->kind == Operation::Kind::kReceive ? 1 : 0].release(*operation);
  }
}

TEST_P(Messages, BothWaysAtOnceDoNotBlockEachOther) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : sizes_over(GetParam())) {
    MessageBytes first(1, bytes), second(2, bytes);
    GuardedBuffer at_first(bytes), at_second(bytes);
    std::vector<Operation*> operations = {
        &job[0].send(1, 0, first.buffer()), &job[1].send(0, 0, second.buffer()),
        &job[0].receive(1, 0, at_first.buffer()), &job[1].receive(0, 0, at_second.buffer())};
    ASSERT_TRUE(job.finish(operations)) << bytes;
    at_first.expect(2, bytes);
    at_second.expect(1, bytes);
  }
}

TEST_P(Messages, ToThisProcessItselfArrive) {
  Job job(GetParam(), 1);
  for (const std::size_t bytes : kSizes) {
    MessageBytes message(4, bytes);
    GuardedBuffer target(bytes);
    Operation& send = job[0].send(0, 9, message.buffer());
    Operation& receive = job[0].receive(0, 9, target.buffer());
    ASSERT_TRUE(job.finish({&send, &receive})) << bytes;
    target.expect(4, bytes);
  }
}

TEST_P(Messages, SentSynchronouslyCompleteOnlyWhenMatched) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : {0, 100, 100'000}) {
    MessageBytes message(1, bytes);
    GuardedBuffer target(bytes);
    Operation& send = job[0].send(1, 0, message.buffer(), SendMode::kSynchronous);
    job.settle();
    EXPECT_FALSE(send.done);
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    target.expect(1, bytes);
  }
}

TEST_P(Messages, OfUnknownSizeGetABufferOfTheirSize) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{1'000'001}}) {
    MessageBytes message(6, bytes);
    Operation& receive = job[1].receive_any_size(kAnySource, kAnyTag);
    Operation& send = job[0].send(1, 3, message.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    EXPECT_EQ(receive.completion.error, Error::kNone);
    ASSERT_EQ(receive.completion.bytes, bytes);
    if (bytes != 0) {
      EXPECT_EQ(std::memcmp(receive.owned_buffer.get(), message.bytes().data(), bytes), 0);
    }
    job[1].release(receive);
    job[0].release(send);
  }
}

TEST_P(Messages, TakenByAMatchedProbeGoToItsReceiveOnly) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : {std::size_t{10}, std::size_t{200'000}}) {
    MessageBytes first(1, bytes), second(2, bytes);
    GuardedBuffer to_probe(bytes), to_receive(bytes);
    Operation& send_first = job[0].send(1, 0, first.buffer());
    Operation& send_second = job[0].send(1, 0, second.buffer());
    UnexpectedMessage* message = nullptr;
    ASSERT_TRUE(job.run_until([&] {
      message = job[1].improbe(kAnySource, 0);
      return message != nullptr;
    }));
    EXPECT_EQ(message->header.length(), bytes);
    Operation& receive = job[1].receive(0, 0, to_receive.buffer());
    Operation& matched = job[1].receive_matched(*message, to_probe.buffer());
    ASSERT_TRUE(job.finish({&send_first, &send_second, &receive, &matched}));
    to_probe.expect(1, bytes);
    to_receive.expect(2, bytes);
  }
}

TEST_P(Messages, PassByACancelledReceive) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : {std::size_t{10}, std::size_t{200'000}}) {
    MessageBytes message(1, bytes);
    GuardedBuffer cancelled_target(bytes), target(bytes);
    Operation& cancelled = job[1].receive(0, 0, cancelled_target.buffer());
    Operation& receive = job[1].receive(0, 0, target.buffer());
    EXPECT_TRUE(job[1].cancel(cancelled));
    EXPECT_TRUE(cancelled.done);
    EXPECT_TRUE(cancelled.completion.cancelled);
    Operation& send = job[0].send(1, 0, message.buffer());
    ASSERT_TRUE(job.finish({&send, &receive}));
    EXPECT_FALSE(job[1].cancel(receive));
    EXPECT_FALSE(receive.completion.cancelled);
    target.expect(1, bytes);
    cancelled_target.expect(0, 0);
  }
}

TEST_P(Messages, AMatchedReceiveCannotBeCancelled) {
  Job job(GetParam(), 2);
  MessageBytes message(1, 3'000'000);
  GuardedBuffer target(3'000'000);
  Operation& receive = job[1].receive(0, 0, target.buffer());
  Operation& send = job[0].send(1, 0, message.buffer());
  ASSERT_TRUE(job.run_until([&] {
    bool matched = false;  // asked under the lock, since a lane may have threads of its own
    job[1].inspect([&](Protocol&) { matched = !receive.posted(); });
    return matched;
  }));
  EXPECT_FALSE(job[1].cancel(receive));
  ASSERT_TRUE(job.finish({&send, &receive}));
  target.expect(1, 3'000'000);
}

TEST_P(Messages, ReleasedBeforeTheyAreDoneStillArrive) {
  Job job(GetParam(), 2);
  for (const std::size_t bytes : {std::size_t{10}, std::size_t{300'000}}) {
    MessageBytes message(1, bytes);
    GuardedBuffer target(bytes);
    job[0].release(job[0].send(1, 0, message.buffer()));
    Operation& receive = job[1].receive(0, 0, target.buffer());
    ASSERT_TRUE(job.finish({&receive}));
    target.expect(1, bytes);
    job[1].release(receive);
    job.settle();
    job[0].inspect([](Protocol& protocol) { EXPECT_EQ(protocol.operations().live(), 0u); });
    job[1].inspect([](Protocol& protocol) { EXPECT_EQ(protocol.operations().live(), 0u); });
  }
}

TEST_P(Messages, OnTheirWayKeepTheContextOfAFreedCommunicator) {
  Job job(GetParam(), 2);
  MessageBytes message(1, 3 << 20);
  GuardedBuffer target(3 << 20);
  Operation& receive = job[1].receive(0, 5, target.buffer());
  Operation& send = job[0].send(1, 5, message.buffer());
  bool matched = false;
  while (!matched) {
    job.step();
    job[1].inspect([&](Protocol&) { matched = !receive.posted(); });
  }
  const std::uint32_t number = job[1].context().number;
  auto known = [&] {
    bool found = false;
    job[1].inspect(
        [&](Protocol& protocol) { found = protocol.contexts().find(number) != nullptr; });
    return found;
  };
  auto free_another = [&] {
    job[1].inspect(
        [](Protocol& protocol) { protocol.close_context(*protocol.contexts().create()); });
  };
  job[1].inspect([&](Protocol& protocol) { protocol.close_context(*receive.context); });
  free_another();
  EXPECT_TRUE(known());
  ASSERT_TRUE(job.finish({&send, &receive}));
  target.expect(1, 3 << 20);
  job[0].release(send);
  job[1].release(receive);
  free_another();
  EXPECT_FALSE(known());
}

TEST_P(Messages, ThatNobodyReceivesAreFreedWithTheJob) {
  Job job(GetParam(), 2);
  MessageBytes small(1, 10), medium(2, 5000), large(3, 500'000);
  for (MessageBytes* message : {&small, &medium, &large})
    job[0].send(1, 0, message->buffer());
  EXPECT_TRUE(job.run_until([&] { return job[1].unexpected_bytes() != 0; }));
  job.settle();
}

TEST_P(Messages, OfThreeProcessesAtRandomAllArriveInOrderPerSourceAndTag) {
  constexpr int kRanks = 3;
  constexpr int kPerPair = 150;
  constexpr int kTags = 4;
  Job job(GetParam(), kRanks);
  std::mt19937 random(11);
  std::deque<MessageBytes> messages;
  std::deque<GuardedBuffer> targets;
  std::vector<Operation*> operations;
  struct Awaited {
    GuardedBuffer* target;
    std::uint32_t seed;
    std::size_t bytes;
  };
  std::vector<Awaited> awaited;
  for (int i = 0; i < kPerPair; ++i) {
    for (int pair = 0; pair < kRanks * kRanks; ++pair) {
      const int source = pair / kRanks;
      const int dest = pair % kRanks;
      const int tag = i % kTags;
      const auto seed = static_cast<std::uint32_t>(i * 100 + pair);
      const std::size_t bytes = kSizes[random() % (random() % 20 == 0 ? std::size(kSizes) : 10)];
      MessageBytes& message = messages.emplace_back(seed, bytes);
      GuardedBuffer& target = targets.emplace_back(bytes);
      awaited.push_back({&target, seed, bytes});
      const auto post_send = [&] {
        const SendMode mode = random() % 4 == 0 ? SendMode::kSynchronous : SendMode::kStandard;
        operations.push_back(&job[source].send(dest, tag, message.buffer(), mode));
      };
      const bool send_first = random() % 2 == 0;
      if (send_first) post_send();
      if (random() % 3 == 0) job[static_cast<int>(random() % kRanks)].progress();
      operations.push_back(&job[dest].receive(source, tag, target.buffer()));
      if (!send_first) post_send();
    }
  }
  ASSERT_TRUE(job.finish(operations));
  for (const Awaited& one : awaited)
    one.target->expect(one.seed, one.bytes);
  for (const Operation* operation : operations)
    EXPECT_EQ(operation->completion.error, Error::kNone);
}

INSTANTIATE_TEST_SUITE_P(Lanes, Messages, ::testing::ValuesIn(kLanes), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
