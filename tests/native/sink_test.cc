// What is particular to messages whose buffers the processor cannot touch: announcements keep their
// order and use no credit, a sink asks in windows, and what a sink has no room for waits. One
// thread.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lanes.h"
#include "memory/memory_device.h"

namespace mooncake_mpi::testing {
namespace {

const Lane kOverDevices[] = {
    {.name = "Fake", .kind = Lane::Kind::kFake, .send_device = true, .receive_device = true},
    {.name = "FakeStream",
     .kind = Lane::Kind::kFake,
     .fake = {.reads_peer = false},
     .send_device = true,
     .receive_device = true},
    {.name = "Shm", .kind = Lane::Kind::kShm, .send_device = true, .receive_device = true},
    {.name = "Verbs", .kind = Lane::Kind::kVerbs, .send_device = true, .receive_device = true},
};

// What it has under way is of the process that made it.
class DeviceOfOneProcess final : public MemoryDevice {
 public:
  Result<std::unique_ptr<Source>> source(const Buffer& buffer) override {
    return std::unique_ptr<Source>(std::make_unique<Idle>(buffer.bytes));
  }
  Result<std::unique_ptr<Sink>> sink(const Buffer& buffer) override {
    return std::unique_ptr<Sink>(std::make_unique<Idle>(buffer.bytes));
  }

 private:
  struct Idle final : Source, Sink {
    explicit Idle(std::uint64_t all) : all_(all) {}
    ~Idle() override {
      if (getpid() != owner_) _exit(1);
    }
    std::uint64_t bytes() const noexcept override { return all_; }
    std::span<const std::byte> at(std::uint64_t, std::uint64_t) noexcept override { return {}; }
    std::span<std::byte> room(std::uint64_t, std::uint64_t) noexcept override { return {}; }
    void put(std::uint64_t, std::uint64_t) noexcept override {}
    Landing landed() noexcept override { return Landing::kUnderWay; }

   private:
    std::uint64_t all_;
    pid_t owner_ = getpid();
  };
};

TEST(DeviceMessagesUnderWay, AreLeftAloneByAForkedChild) {
  static DeviceOfOneProcess device;
  Job job(kOverDevices[0], 2);
  std::byte address{};
  Operation& send = job[0].send(1, 1, {&address, 5000, &device});
  Operation& receive = job[0].receive(1, 1, {&address, 5000, &device});
  job.settle();
  const pid_t child = fork();
  if (child == 0) {
    job[0].inspect([](Protocol& protocol) { protocol.leave_behind(); });
    _exit(send.done && receive.done ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

class DeviceMessages : public ::testing::TestWithParam<Lane> {};

TEST_P(DeviceMessages, OfNoBytesKeepTheirPlaceAmongOthers) {
  Job job(GetParam(), 2);
  MessageBytes nothing(1, 0);
  MessageBytes something(2, 500);
  Operation& first = job[0].send(1, 3, nothing.buffer());
  Operation& second = job[0].send(1, 3, something.buffer());
  job.settle();
  GuardedBuffer small(500);
  GuardedBuffer large(500);
  Operation& one = job[1].receive(0, 3, small.buffer());
  Operation& two = job[1].receive(0, 3, large.buffer());
  ASSERT_TRUE(job.finish({&first, &second, &one, &two}));
  EXPECT_EQ(one.completion.bytes, 0u);
  EXPECT_EQ(two.completion.bytes, 500u);
  large.expect(2, 500);
  EXPECT_EQ(job[0].counters().eager_sent, 0u);
}

TEST_P(DeviceMessages, DoNotHoldUpHostMessagesBehindThem) {
  Job job(GetParam(), 2);
  MessageBytes device(1, 300'000);
  std::byte host[8]{std::byte{5}};
  Operation& slow = job[0].send(1, 1, device.buffer());
  Operation& quick = job[0].send(1, 2, {host, sizeof host});
  std::byte into[8]{};
  Operation& receive = job[1].receive(0, 2, {into, sizeof into});
  ASSERT_TRUE(job.finish({&quick, &receive}));
  EXPECT_EQ(into[0], std::byte{5});
  GuardedBuffer target(300'000);
  Operation& late = job[1].receive(0, 1, target.buffer());
  ASSERT_TRUE(job.finish({&slow, &late}));
  target.expect(1, 300'000);
}

TEST_P(DeviceMessages, ThatAreCutLeaveTheRestOfTheBufferAlone) {
  Job job(GetParam(), 2);
  MessageBytes message(3, 100'000);
  GuardedBuffer target(70'001);
  Operation& receive = job[1].receive(0, 1, target.buffer());
  Operation& send = job[0].send(1, 1, message.buffer());
  ASSERT_TRUE(job.finish({&send, &receive}));
  EXPECT_EQ(receive.completion.error, Error::kTruncate);
  target.expect(3, 70'001);
}

TEST_P(DeviceMessages, FromTheHostWaitForRoomInTheSink) {
  Job job(GetParam(), 2);
  std::vector<std::byte> host(12'000);
  std::vector<GuardedBuffer> targets;
  std::vector<Operation*> all;
  for (int i = 0; i < 20; ++i) {
    targets.emplace_back(host.size());
    all.push_back(&job[1].receive(0, i, targets.back().buffer()));
    all.push_back(&job[0].send(1, i, {host.data(), host.size()}));
  }
  ASSERT_TRUE(job.finish(all));
  for (const GuardedBuffer& target : targets)
    EXPECT_TRUE(std::ranges::equal(target.bytes(), host));
}

TEST_P(DeviceMessages, ThatWaitForRoomAtOnceDoNotHoldThePoll) {
  Job job(GetParam(), 2);
  std::vector<MessageBytes> messages;
  std::vector<GuardedBuffer> targets;
  std::vector<Operation*> all;
  messages.reserve(6);
  targets.reserve(6);
  for (int i = 0; i < 6; ++i) {
    messages.emplace_back(static_cast<std::uint32_t>(i), 150'000);
    targets.emplace_back(150'000);
    all.push_back(&job[1].receive(0, i, targets.back().buffer()));
    all.push_back(&job[0].send(1, i, messages.back().buffer()));
  }
  ASSERT_TRUE(job.finish(all));
  for (std::uint32_t i = 0; i < 6; ++i)
    targets[i].expect(i, 150'000);
}

TEST_P(DeviceMessages, FailWithTheirPeerAtAnyMoment) {
  for (int turns = 0; turns < 40; ++turns) {
    Job job(GetParam(), 2);
    MessageBytes message(1, 200'000);
    GuardedBuffer target(200'000);
    Operation& receive = job[1].receive(0, 1, target.buffer());
    Operation& send = job[0].send(1, 1, message.buffer());
    for (int turn = 0; turn < turns; ++turn) {
      job[0].progress();
      job[1].progress();
    }
    const bool whole = receive.done != 0;
    job.kill(0);
    ASSERT_TRUE(job.run_until([&] { return receive.done != 0; })) << turns;
    if (whole) {
      EXPECT_EQ(receive.completion.error, Error::kNone);
    } else if (receive.completion.error == Error::kNone) {
      target.expect(1, 200'000);
    }
    job[1].release(receive);
    job[0].release(send);
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, DeviceMessages, ::testing::ValuesIn(kOverDevices), lane_name);

}  // namespace
}  // namespace mooncake_mpi::testing
