// Processes that a communicator names and nobody has talked to: they cost little, and are the same
// peer in every communicator once somebody has. One thread plays every process.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "drivers/linux/fake_process_watch.h"
#include "drivers/verbs/fake_fabric.h"
#include "engine/engine.h"
#include "transport/self/lane.h"
#include "transport/verbs/lane.h"

namespace mooncake_mpi::testing {
namespace {

constexpr MatchChannel kChannel = MatchChannel::kMessages;

class Strangers : public ::testing::Test {
 protected:
  // Each on a host of its own: over the fabric they are reached, by no process's end.
  std::unique_ptr<Engine> process_on(const char* host) {
    verbs::Drivers drivers;
    drivers.provider = fabric_.make_provider(1);
    drivers.config.timeout_ns = 300'000'000;
    ::setenv("MOONCAKE_MPI_HOST_ID", host, 1);
    auto engine = Engine::create({}, {self_lane(), verbs::lane(drivers)},
                                 std::make_unique<linux_driver::FakeProcessWatch>());
    ::unsetenv("MOONCAKE_MPI_HOST_ID");
    EXPECT_TRUE(engine.ok());
    return std::move(engine).value();
  }

  void SetUp() override {
    engines_.push_back(process_on("one"));
    engines_.push_back(process_on("two"));
    contexts_ = make_communicator();
    // Before anybody has talked to anybody.
    copies_ = duplicate();
  }

  std::vector<Context*> make_communicator() {
    std::vector<Context*> made;
    std::vector<wire::Address> members;
    for (int rank = 0; rank < 2; ++rank) {
      made.push_back(engines_[rank]->create_context(rank, 2).value());
      members.push_back(engines_[rank]->address(*made.back()));
    }
    for (int rank = 0; rank < 2; ++rank)
      EXPECT_TRUE(engines_[rank]->activate(*made[rank], members).ok());
    return made;
  }

  std::vector<Context*> duplicate() {
    std::vector<Context*> made;
    for (int rank = 0; rank < 2; ++rank)
      made.push_back(engines_[rank]->create_context(rank, 2).value());
    for (int rank = 0; rank < 2; ++rank) {
      auto members = contexts_[rank]->members;
      for (std::size_t other = 0; other < 2; ++other)
        members[other].number = made[other]->number;
      engines_[rank]->activate_known(*made[rank], std::move(members), "copy");
    }
    return made;
  }

  template <class Done>
  bool run(Done&& done) {
    const auto end = now_ns() + 20'000'000'000u;
    while (!done() && now_ns() < end) {
      for (const auto& engine : engines_)
        engine->progress();
    }
    return done();
  }

  Operation* send(int from, Context& context) {
    auto sent =
        engines_[from]->send(context, kChannel, 1 - from, 3, {&out_, 1}, SendMode::kStandard);
    EXPECT_TRUE(sent.ok());
    return sent.value();
  }

  verbs_driver::FakeFabric fabric_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<Context*> contexts_;
  std::vector<Context*> copies_;
  std::byte out_{7};
  std::byte in_{};
};

TEST_F(Strangers, ArePeersFromTheirFirstMessageInEveryCommunicator) {
  EXPECT_EQ(engines_[0]->ways().transfers(nullptr).size(), 1u) << "itself";
  EXPECT_TRUE(contexts_[0]->members[1].peer->is_stranger);
  EXPECT_TRUE(copies_[1]->members[0].peer->is_stranger);
  Operation* receive = engines_[1]->receive(*contexts_[1], kChannel, kAnySource, 3, {&in_, 1});
  Operation* sent = send(0, *contexts_[0]);
  ASSERT_TRUE(run([&] { return sent->done && receive->done; }));
  EXPECT_EQ(receive->completion.source, 0);
  EXPECT_EQ(in_, out_);
  Peer* peer = contexts_[1]->members[0].peer;
  EXPECT_FALSE(peer->is_stranger);
  EXPECT_TRUE(copies_[1]->members[0].peer->is_stranger);
  // The same peer in the other one, whoever begins.
  in_ = {};
  receive = engines_[1]->receive(*copies_[1], kChannel, 0, 3, {&in_, 1});
  EXPECT_EQ(copies_[1]->members[0].peer, peer);
  sent = send(0, *copies_[0]);
  ASSERT_TRUE(run([&] { return sent->done && receive->done; }));
  EXPECT_EQ(in_, out_);
  EXPECT_EQ(engines_[1]->ways().transfers(nullptr).size(), 2u);
  // And of one that is made after that.
  EXPECT_EQ(make_communicator()[1]->members.size(), 2u);
  EXPECT_EQ(duplicate()[1]->members[0].peer, peer);
}

TEST_F(Strangers, AnswerFromQueuesAndProbes) {
  Operation* sent = send(1, *copies_[1]);
  Engine::Envelope envelope;
  ASSERT_TRUE(run([&] { return engines_[0]->iprobe(*copies_[0], 1, 3, envelope); }));
  EXPECT_EQ(envelope.bytes, 1u);
  Operation* receive = engines_[0]->receive(*copies_[0], kChannel, 1, 3, {&in_, 1});
  ASSERT_TRUE(run([&] { return sent->done && receive->done; }));
}

// A receive from a process that never said anything is failed with it, and a communicator in which
// it was never talked to knows of its end.
TEST_F(Strangers, ThatAreLostAreLostToEveryCommunicator) {
  Operation* waits = engines_[0]->receive(*copies_[0], kChannel, 1, 9, {&in_, 1});
  Operation* receive = engines_[1]->receive(*contexts_[1], kChannel, 0, 3, {&in_, 1});
  Operation* sent = send(0, *contexts_[0]);
  ASSERT_TRUE(run([&] { return sent->done && receive->done; }));
  const auto unaware = duplicate();
  fabric_.set_port(1, 0, false);
  ASSERT_TRUE(run([&] { return waits->done.load() != 0; }));
  EXPECT_EQ(waits->completion.error, Error::kPathLost);
  for (Context* context : {contexts_[0], copies_[0], unaware[0]}) {
    EXPECT_EQ(engines_[0]->failures(*context).ranks, std::vector<std::int32_t>{1});
  }
  EXPECT_EQ(engines_[0]->failures(*duplicate()[0]).ranks, std::vector<std::int32_t>{1});
}

// Who waits for any rank calls none: if none of them can call it, it says with whom it never spoke.
TEST_F(Strangers, AreNamedByAWaitForAnyOfThem) {
  Operation* waits = engines_[0]->receive(*contexts_[0], kChannel, kAnySource, 3, {&in_, 1});
  WaitRecord record;
  record.operations = {waits->id()};
  const std::uint64_t id = engines_[0]->begin_wait(record);
  EXPECT_TRUE(contexts_[0]->members[1].peer->is_stranger);
  EXPECT_NE(engines_[0]->explain().find(" with rank 1; whoever sends"), std::string::npos)
      << engines_[0]->explain();
  Operation* sent = send(1, *contexts_[1]);
  ASSERT_TRUE(run([&] { return sent->done && waits->done; }));
  EXPECT_EQ(engines_[0]->explain().find("not connected"), std::string::npos);
  engines_[0]->end_wait(id);
}

TEST_F(Strangers, TakeLittleAndOnlyWhoIsTalkedToIsMade) {
  constexpr int kMembers = 10'000;
  Engine& engine = *engines_[0];
  const auto allocated = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  Context* context = engine.create_context(0, kMembers).value();
  std::vector<wire::Address> members{engine.address(*context)};
  for (int rank = 1; rank < kMembers; ++rank) {
    wire::Address other = engines_[1]->address(*contexts_[1]);
    std::memcpy(other.uid.data(), &rank, sizeof rank);
    const int host = rank / 8;
    std::memcpy(other.host.data(), &host, sizeof host);
    other.sections[0].bytes[17] = static_cast<std::byte>(rank);
    members.push_back(std::move(other));
  }
  const auto before = allocated();
  ASSERT_TRUE(engine.activate(*context, members).ok());
  if (before != 0) {  // a sanitizer's allocator does not say
    EXPECT_LE((allocated() - before) / kMembers, 160u);
  }
  EXPECT_EQ(engine.ways().transfers(nullptr).size(), 1u);
  engine.receive(*context, kChannel, 5'000, 1, {&in_, 1});
  EXPECT_EQ(engine.ways().transfers(nullptr).size(), 2u);
  EXPECT_EQ(context->members[5'000].peer->address, members[5'000]);
  engine.close_context(*context);
}

}  // namespace
}  // namespace mooncake_mpi::testing
