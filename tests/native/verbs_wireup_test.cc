// Wiring up: who is let in, and that lost datagrams only delay. One thread plays every rank.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include "base/clock.h"
#include "party.h"
#include "transport/verbs/verbs_transport.h"
#include "verbs_job.h"

namespace mooncake_mpi::testing {
namespace {

// Counts who asks to be connected.
struct Doorman final : PacketSink {
  void on_packet(Peer&, const wire::Header&, Bytes) override {}
  Peer* on_connect(const ProcessId&) override {
    ++asked;
    return nullptr;
  }
  void on_moved(Peer&, std::uint64_t, Error) override {}
  void send_note(Peer&, wire::LaneId, std::uint64_t, Bytes) override {}
  std::optional<wire::Secret> secret_of(const ProcessId& process) override {
    return process == known.uid ? std::optional(known.secret) : std::nullopt;
  }
  wire::Identity known;
  int asked = 0;
};

class VerbsWireup : public ::testing::Test {
 protected:
  VerbsWireup() {
    address.uid[0] = std::byte{1};
    address.job_secret[3] = std::byte{9};
    auto made = verbs::VerbsTransport::create(address, fabric.make_provider(1), {}, counters);
    EXPECT_TRUE(made.ok());
    lane = std::move(made).value();
    lane->describe(address);
    hello.magic = wire::kHelloMagic;
    hello.version = wire::kVersion;
    hello.paths = 1;
    doorman.known.uid[0] = std::byte{2};
    doorman.known.secret[7] = std::byte{8};
    hello.from = doorman.known.uid;
    hello.to = address.uid;
    hello.credits = 8;
    hello.moment = 1;
    hello.offers[0] = {.epoch = 1, .queue_pair = 100, .psn = 5};
    hello = proved(hello);
  }
  // As the process that we know proves it.
  wire::Hello proved(wire::Hello datagram) const {
    prove(datagram, wire::hello_key(doorman.known, {address.uid, address.job_secret}));
    return datagram;
  }
  int asked_after(std::span<const std::byte> datagram) {
    const auto rails = wire::decode_rails(address.section(verbs::VerbsTransport::kLane));
    fabric.inject(rails.value()[0].queue_pair, rails.value()[0].queue_key, datagram);
    for (int turn = 0; turn < 8; ++turn)
      lane->poll(doorman);
    return std::exchange(doorman.asked, 0);
  }
  int asked_after(const wire::Hello& datagram) {
    return asked_after(std::as_bytes(std::span(&datagram, 1)));
  }

  verbs_driver::FakeFabric fabric;
  MoverCounters counters;
  wire::Address address;
  std::unique_ptr<verbs::VerbsTransport> lane;
  wire::Hello hello;
  Doorman doorman;
};

TEST_F(VerbsWireup, OnlyADatagramThatIsProvedIsHeard) {
  EXPECT_EQ(asked_after(hello), 1);
  for (std::size_t bit = 0; bit < 8 * sizeof hello; ++bit) {
    wire::Hello forged = hello;
    reinterpret_cast<std::byte*>(&forged)[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_EQ(asked_after(forged), 0) << "bit " << bit;
  }
  EXPECT_EQ(asked_after(hello), 1);
}

TEST_F(VerbsWireup, ADatagramThatIsProvedWithOtherSecretsIsNotHeard) {
  const wire::Identity self{address.uid, address.job_secret};
  wire::Identity wrong = doorman.known;
  wrong.secret[31] = std::byte{1};
  prove(hello, wire::hello_key(wrong, self));
  EXPECT_EQ(asked_after(hello), 0);
  wrong = self;
  wrong.secret = {};
  prove(hello, wire::hello_key(doorman.known, wrong));
  EXPECT_EQ(asked_after(hello), 0);
  prove(hello, {});
  EXPECT_EQ(asked_after(hello), 0);
  // Nor that of a process that has none, though anybody could make its proof.
  doorman.known.secret = {};
  EXPECT_EQ(asked_after(proved(hello)), 0);
}

TEST_F(VerbsWireup, ADatagramThatContradictsItselfIsDropped) {
  const auto damaged = [&](auto&& damage) {
    wire::Hello bad = hello;
    damage(bad);
    return asked_after(proved(bad));
  };
  EXPECT_EQ(damaged([](wire::Hello& h) { ++h.magic; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { ++h.version; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.paths = 0; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.paths = wire::kMaxRails + 1; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.to[3] = std::byte{9}; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.credits = 0; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.credits = UINT32_MAX; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.reserved = 1; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.offers[2].queue_pair = 1u << 24; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.offers[0].psn = 1u << 24; }), 0);
  EXPECT_EQ(damaged([](wire::Hello& h) { h.offers[3].ready = 2; }), 0);
  const auto bytes = std::as_bytes(std::span(&hello, 1));
  EXPECT_EQ(asked_after(bytes.first(bytes.size() - 1)), 0);
  EXPECT_EQ(asked_after(hello), 1);
}

TEST_F(VerbsWireup, RandomBytesAreHeardByNobody) {
  std::mt19937 random(7);
  for (int turn = 0; turn < 2000; ++turn) {
    std::vector<std::byte> bytes(random() % 200);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random());
    ASSERT_EQ(asked_after(bytes), 0);
  }
  // Nor do they upset whoever has the secret.
  for (int turn = 0; turn < 5000; ++turn) {
    wire::Hello damaged = hello;
    auto* raw = reinterpret_cast<std::byte*>(&damaged);
    for (int change = 0; change < 4; ++change)
      raw[random() % sizeof damaged] = static_cast<std::byte>(random());
    asked_after(proved(damaged));
  }
  EXPECT_EQ(asked_after(hello), 1);
}

TEST(VerbsWireupOfAJob, SurvivesTheLossOfDatagrams) {
  for (const std::uint64_t lost : {1, 2, 3, 7}) {
    Job job(kTwoRails, 2);
    job.fabric().drop_datagrams(lost);
    MessageBytes message(1, 100);
    GuardedBuffer target(100);
    Operation& receive = job[1].receive(0, 0, target.buffer());
    Operation& send = job[0].send(1, 0, message.buffer());
    const auto end = now_ns() + 20'000'000'000u;
    while (!(send.done && receive.done) && now_ns() < end) {
      job[0].progress();
      job[1].progress();
    }
    EXPECT_TRUE(receive.done) << lost << " datagrams lost";
    target.expect(1, 100);
  }
}

TEST(VerbsWireupOfAJob, RecordedDatagramsChangeNothingAndAreNotAnswered) {
  Job job(kTwoRails, 2);
  job.fabric().record_datagrams();
  const auto ready = [&] {
    return job[0].path_troubles(1).empty() && job[1].path_troubles(0).empty();
  };
  exchange(job, 1, 100);
  // Later epochs, so that there are offers of earlier ones.
  for (std::uint32_t turn = 0; turn < 2; ++turn) {
    job.fabric().set_port(0, 1, false);
    exchange(job, 2 + turn, 300'000);
    job.fabric().set_port(0, 1, true);
    ASSERT_TRUE(run(job, ready));
  }
  const auto recorded = job.fabric().recorded();
  ASSERT_GE(recorded.size(), 4u);
  const auto sent = job.fabric().counters().datagrams;
  for (int turn = 0; turn < 3; ++turn) {
    for (const auto& datagram : recorded) {
      job.fabric().inject(datagram.queue_pair, datagram.queue_key, datagram.bytes);
      for (int poll = 0; poll < 8; ++poll) {
        job[0].progress();
        job[1].progress();
      }
      ASSERT_TRUE(ready());
    }
    exchange(job, 10 + static_cast<std::uint32_t>(turn), 300'000);
  }
  EXPECT_EQ(job.fabric().counters().datagrams, sent);
}

TEST(VerbsWireupOfAJob, BothMayBeginAtOnce) {
  Job job(kTwoRails, 2);
  MessageBytes messages[2] = {{1, 100'000}, {2, 100'000}};
  GuardedBuffer targets[2] = {GuardedBuffer(100'000), GuardedBuffer(100'000)};
  std::vector<Operation*> operations;
  for (int rank = 0; rank < 2; ++rank) {
    operations.push_back(&job[rank].receive(1 - rank, 0, targets[rank].buffer()));
    operations.push_back(&job[rank].send(1 - rank, 0, messages[rank].buffer()));
  }
  EXPECT_TRUE(job.finish(operations));
  targets[0].expect(2, 100'000);
  targets[1].expect(1, 100'000);
}

}  // namespace
}  // namespace mooncake_mpi::testing
