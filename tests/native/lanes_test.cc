// Lanes are a list: one that reaches nobody can be added to it, and nothing else changes. One
// thread.
#include "engine/lanes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "drivers/linux/fake_process_watch.h"
#include "engine/engine.h"
#include "transport/self/lane.h"
#include "transport/shm/lane.h"

namespace mooncake_mpi {
namespace {

// What a new lane begins as.
class EmptyTransport : public Transport {
 public:
  static constexpr wire::LaneId kLane = 77;
  std::string_view name() const noexcept override { return "empty"; }
  void describe(wire::Address& address) const override {
    address.add(kLane, std::as_bytes(std::span("nobody")));
  }
  std::string unreachable_reason(const wire::Address&) const override { return "reaches nobody"; }
  Result<Way> connect(const wire::Address&, Peer&) override {
    return Failure{Error::kUnreachable, "reaches nobody"};
  }
  unsigned poll(PacketSink&) override { return 0; }
};

Lane empty_lane() {
  return {"empty", EmptyTransport::kLane, false, false,
          [](const LaneContext&) -> Result<std::unique_ptr<Transport>> {
            return std::unique_ptr<Transport>(std::make_unique<EmptyTransport>());
          }};
}

std::unique_ptr<Engine> engine_with(const std::vector<Lane>& lanes,
                                    std::vector<std::string> chosen = {}) {
  EngineConfig config;
  config.lanes = std::move(chosen);
  auto engine = Engine::create(config, lanes, std::make_unique<linux_driver::FakeProcessWatch>());
  EXPECT_TRUE(engine.ok()) << engine.failure().message;
  return std::move(engine).value();
}

TEST(Lanes, OfThisBuildHaveNamesAndNumbersOfTheirOwn) {
  std::set<std::string> names;
  std::set<wire::LaneId> ids;
  for (const Lane& lane : all_lanes()) {
    EXPECT_TRUE(names.insert(lane.name).second) << lane.name;
    EXPECT_TRUE(ids.insert(lane.id).second) << lane.name;
  }
  EXPECT_TRUE(all_lanes().front().always);
}

TEST(Lanes, AnEmptyOneIsCarriedInTheAddressAndHarmsNobody) {
  const auto first = engine_with({self_lane(), empty_lane(), shm::lane()});
  const auto second = engine_with({self_lane(), empty_lane(), shm::lane()});
  Context* contexts[] = {first->create_context(0, 2).value(), second->create_context(1, 2).value()};
  const std::vector members{first->address(*contexts[0]), second->address(*contexts[1])};
  EXPECT_FALSE(members[0].section(EmptyTransport::kLane).empty());
  ASSERT_TRUE(first->activate(*contexts[0], members).ok());
  ASSERT_TRUE(second->activate(*contexts[1], members).ok());
  EXPECT_EQ(first->lane_of(*contexts[0], 1), "shm");
  std::byte byte{7};
  const Buffer buffer{&byte, 1};
  EXPECT_TRUE(first->try_send_now(*contexts[0], MatchChannel::kMessages, 1, 0, buffer));
}

class OutOfReach : public ::testing::Test {
 protected:
  static constexpr MatchChannel kChannel = MatchChannel::kMessages;

  void SetUp() override {
    for (int rank = 0; rank < 2; ++rank)
      contexts_.push_back(engines_[rank]->create_context(rank, 2).value());
    const std::vector members{engines_[0]->address(*contexts_[0]),
                              engines_[1]->address(*contexts_[1])};
    for (int rank = 0; rank < 2; ++rank)
      ASSERT_TRUE(engines_[rank]->activate(*contexts_[rank], members).ok());
  }
  static std::unique_ptr<Engine> process_on(const char* host) {
    ::setenv("MOONCAKE_MPI_HOST_ID", host, 1);
    auto engine = engine_with({self_lane(), shm::lane()});
    ::unsetenv("MOONCAKE_MPI_HOST_ID");
    return engine;
  }
  Operation* receive(std::int32_t source) {
    return engines_[0]->receive(*contexts_[0], kChannel, source, 3, {&byte_, 1});
  }
  void wait_for(const Operation& operation) {
    WaitRecord record;
    record.operations = {operation.id()};
    engines_[0]->end_wait(engines_[0]->begin_wait(record));
  }

  const std::unique_ptr<Engine> engines_[2] = {process_on("one"), process_on("two")};
  std::vector<Context*> contexts_;
  std::byte byte_{7};
};

TEST_F(OutOfReach, NothingIsReceivedNorProbed) {
  Operation* failed = receive(1);
  ASSERT_TRUE(failed->done);
  EXPECT_EQ(failed->completion.error, Error::kUnreachable);
  EXPECT_NE(engines_[0]->why_lost(*failed).find("shm: another host"), std::string::npos);
  engines_[0]->release(*failed);
  Engine::Envelope envelope;
  EXPECT_TRUE(engines_[0]->iprobe(*contexts_[0], 1, 3, envelope));
  EXPECT_EQ(envelope.error, Error::kUnreachable);
  EXPECT_TRUE(engines_[0]->failures(*contexts_[0]).ranks.empty()) << "it may be well";
  EXPECT_FALSE(engines_[0]->send(*contexts_[0], kChannel, 1, 3, {&byte_, 1}, SendMode::kStandard));
  // In a communicator that was made before, and in one that is made after that.
  auto members = contexts_[0]->members;
  Context* copy = engines_[0]->create_context(0, 2).value();
  engines_[0]->activate_known(*copy, std::move(members), "copy");
  failed = engines_[0]->receive(*copy, kChannel, 1, 3, {&byte_, 1});
  EXPECT_EQ(failed->completion.error, Error::kUnreachable);
}

TEST_F(OutOfReach, AProbeAloneFindsIt) {
  Engine::Envelope envelope;
  EXPECT_TRUE(engines_[0]->iprobe(*contexts_[0], 1, 3, envelope));
  EXPECT_EQ(envelope.error, Error::kUnreachable);
}

// What this process sends to itself it receives; a call that waits for another process ends.
TEST_F(OutOfReach, NobodyElseIsWaitedFor) {
  Operation* own = receive(kAnySource);
  EXPECT_FALSE(own->done);
  ASSERT_TRUE(engines_[0]->send(*contexts_[0], kChannel, 0, 3, {&byte_, 1}, SendMode::kBuffered));
  engines_[0]->progress();
  EXPECT_TRUE(own->done);
  EXPECT_EQ(own->completion.error, Error::kNone);
  Operation* failed = receive(kAnySource);
  EXPECT_FALSE(failed->done);
  wait_for(*failed);
  ASSERT_TRUE(failed->done);
  EXPECT_EQ(failed->completion.error, Error::kUnreachable);
  EXPECT_NE(engines_[0]->why_lost(*failed).find("rank 1: "), std::string::npos);
  Engine::Envelope envelope;
  EXPECT_TRUE(engines_[0]->iprobe(*contexts_[0], kAnySource, 3, envelope));
  EXPECT_EQ(envelope.error, Error::kUnreachable);
  EXPECT_NE(engines_[0]->why_lost(*contexts_[0], kAnySource).find("shm"), std::string::npos);
}

// Counts what it is asked for, and declines.
class CountingMover final : public Mover {
 public:
  wire::LaneId lane() const noexcept override { return EmptyTransport::kLane; }
  TransferPath path() const noexcept override { return TransferPath::kCopy; }
  Answer expose(const Buffer&, Access, Exposure&) noexcept override {
    ++asked;
    return Answer::kNo;
  }
  void abandon() noexcept override {}
  static inline int asked = 0;
};

class MovingTransport final : public EmptyTransport {
 public:
  std::string unreachable_reason(const wire::Address&) const override { return {}; }
  bool only_moves() const noexcept override { return true; }
  Result<Way> connect(const wire::Address&, Peer&) override {
    return Way{nullptr, std::make_unique<CountingMover>()};
  }
};

TEST(Lanes, ThatOnlyMoveAddToTheOneThatHasTheChannel) {
  Lane moving{"moving", EmptyTransport::kLane, false, false,
              [](const LaneContext&) -> Result<std::unique_ptr<Transport>> {
                return std::unique_ptr<Transport>(std::make_unique<MovingTransport>());
              }};
  const auto engine = engine_with({moving, self_lane(), shm::lane()});
  Context* context = engine->create_context(0, 1).value();
  ASSERT_TRUE(engine->activate(*context, {engine->address(*context)}).ok());
  EXPECT_EQ(engine->lane_of(*context, 0), "self");
  std::vector<std::byte> out(100'000, std::byte{3});
  std::vector<std::byte> in(out.size());
  Operation* receive =
      engine->receive(*context, MatchChannel::kMessages, 0, 1, {in.data(), in.size()});
  auto send = engine->send(*context, MatchChannel::kMessages, 0, 1, {out.data(), out.size()},
                           SendMode::kStandard);
  ASSERT_TRUE(send.ok());
  for (int turn = 0; turn < 1000 && !receive->done; ++turn)
    engine->progress();
  EXPECT_TRUE(receive->done);
  EXPECT_EQ(in, out);
  EXPECT_EQ(CountingMover::asked, 1);
  engine->release(*receive);
  engine->release(*send.value());
}

TEST(Lanes, ThatAreNotChosenAreMissingWithTheReason) {
  const auto engine = engine_with({self_lane(), empty_lane(), shm::lane()}, {"shm"});
  ASSERT_EQ(engine->missing_lanes().size(), 1u);
  EXPECT_EQ(engine->missing_lanes()[0].name, "empty");
  EXPECT_EQ(engine->missing_lanes()[0].reason, "not among the chosen lanes");
}

TEST(Lanes, AProcessGoesOnWithoutAnOptionalOneThatFails) {
  Lane broken = empty_lane();
  broken.open = [](const LaneContext&) -> Result<std::unique_ptr<Transport>> {
    return Failure{Error::kUnreachable, "no such device"};
  };
  EngineConfig config;
  EXPECT_FALSE(Engine::create(config, {self_lane(), broken}).ok());
  broken.optional = true;
  const auto engine = engine_with({self_lane(), broken});
  EXPECT_EQ(engine->missing_lanes()[0].reason, "no such device");
}

}  // namespace
}  // namespace mooncake_mpi
