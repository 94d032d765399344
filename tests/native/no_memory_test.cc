// What arrives while there is no memory is not lost: it waits where it is until there is some.
// Refused are the allocations of the thread that makes progress, which is the test's.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "counted_allocations.h"
#include "engine/engine.h"
#include "party.h"

namespace mooncake_mpi::testing {
namespace {

const Lane kTried[] = {
    {"Shm", Lane::Kind::kShm},
    {"ShmAllRefused", Lane::Kind::kShmWithoutCma, {}, true, true, false},
    {.name = "Verbs", .kind = Lane::Kind::kVerbs},
    {.name = "VerbsTwoRails", .kind = Lane::Kind::kVerbs, .rails = 2},
    {.name = "Tcp", .kind = Lane::Kind::kTcp},
    {.name = "TcpRough", .kind = Lane::Kind::kTcpFake, .rough = true},
};

class WithoutMemory : public ::testing::TestWithParam<Lane> {};

struct Sent {
  MessageBytes message;
  Operation* send;
};

// Progress without memory, then with it: both ways through whatever the packets ask for.
void progress(Job& job, int turns) {
  for (int turn = 0; turn < turns; ++turn) {
    for (int rank = 0; rank < job.size(); ++rank) {
      refuse_allocations = true;
      job[rank].progress();
      refuse_allocations = false;
    }
  }
}

TEST_P(WithoutMemory, EveryMessageArrives) {
  // One credit's worth of eager bytes, so that announcements and answers pile up, too.
  ProtocolLimits limits;
  limits.unexpected_bytes = 256 * 1024;
  Job job(GetParam(), 2, limits);
  std::mt19937 random(7);
  const std::size_t sizes[] = {0, 8, 200, 5000, 9000, 30'000, 100'000, 700'000};
  for (int round = 0; round < 12; ++round) {
    std::vector<Sent> sent;
    for (int i = 0; i < 60; ++i) {
      const auto seed = static_cast<std::uint32_t>(round * 100 + i);
      const std::size_t bytes = sizes[random() % std::size(sizes)];
      Sent& one = sent.emplace_back(MessageBytes(seed, bytes), nullptr);
      const SendMode mode = i % 3 == 0 ? SendMode::kSynchronous : SendMode::kStandard;
      one.send = &job[0].send(1, i, one.message.buffer(), mode);
      if (i % 10 == 0) progress(job, 3);
    }
    progress(job, 200);
    std::vector<GuardedBuffer> targets;
    std::vector<Operation*> all;
    for (int i = 0; i < 60; ++i) {
      Sent& one = sent[static_cast<std::size_t>(i)];
      all.push_back(one.send);
      all.push_back(
          &job[1].receive(0, i, targets.emplace_back(one.message.bytes().size()).buffer()));
      if (i % 10 == 0) progress(job, 3);
    }
    progress(job, 200);
    ASSERT_TRUE(job.finish(all)) << "round " << round;
    for (int i = 0; i < 60; ++i) {
      const auto seed = static_cast<std::uint32_t>(round * 100 + i);
      const std::size_t at = static_cast<std::size_t>(i);
      EXPECT_EQ(all[2 * at + 1]->completion.error, Error::kNone);
      targets[at].expect(seed, sent[at].message.bytes().size());
      job[0].release(*all[2 * at]);
      job[1].release(*all[2 * at + 1]);
    }
  }
}

TEST(ABatchWithoutMemory, IsPostedNotAtAllAndLaterWhole) {
  auto engine = Engine::create({}).value();
  Context* context = engine->create_context(0, 1).value();
  ASSERT_TRUE(engine->activate(*context, {engine->address(*context)}).ok());
  std::array<int, 100> values{};
  std::vector<Posting> batch(values.size());
  std::vector<Posting> again(values.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    for (Posting* posting : {&batch[i], &again[i]}) {
      *posting = {.context = context, .kind = Posting::Kind::kReceive, .tag = 1};
      posting->buffer = {reinterpret_cast<std::byte*>(&values[i]), sizeof(int)};
    }
  }
  refuse_allocations = true;
  engine->post(batch);
  refuse_allocations = false;
  for (const Posting& posting : batch) {
    EXPECT_EQ(posting.error, Error::kNoMemory);
    EXPECT_EQ(posting.operation, nullptr);
  }
  EXPECT_EQ(context->posted_count(), 0u);
  engine->post(again);
  EXPECT_EQ(context->posted_count(), again.size());
}

INSTANTIATE_TEST_SUITE_P(Lanes, WithoutMemory, ::testing::ValuesIn(kTried),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mooncake_mpi::testing
