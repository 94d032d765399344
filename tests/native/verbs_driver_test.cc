// The fake adapters keep verbs' promises, so that what is tested over them means something. One
// thread.
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "drivers/verbs/fake_fabric.h"
#include "drivers/verbs/system_provider.h"

namespace mooncake_mpi::verbs_driver {
namespace {

template <class T>
T take(Result<T> result) {
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.failure().message);
  return std::move(result).value();
}

// One process with a connected queue pair and a few receive buffers.
struct End {
  explicit End(FakeFabric& fabric) : provider(fabric.make_provider(1)) {
    device = take(provider->open("fake0"));
    completions = take(device->create_completion_queue(64));
    receives = take(device->create_shared_receive_queue(8));
    region = take(device->register_memory(memory.data(), memory.size(),
                                          kLocalWrite | kRemoteRead | kRemoteWrite));
    renew();
  }
  void renew() {
    pair.reset();
    pair = take(device->create_queue_pair({.completions = completions.get(),
                                           .receives = receives.get(),
                                           .send_depth = 4,
                                           .inline_bytes = 64}));
  }
  Result<bool> connect(End& peer) {
    ConnectOptions options;
    options.route.gid = take(peer.device->query_port(1)).gids.front().gid;
    options.remote_queue_pair = peer.pair->number();
    return pair->connect(options);
  }
  void post_receive(std::uint64_t id, std::size_t offset) {
    EXPECT_EQ(receives->post_receive({id, memory.data() + offset, 64, region->local_key()}), 0);
  }
  SendRequest request(SendRequest::Operation operation, std::uint64_t id, std::uint32_t bytes) {
    return {.id = id,
            .operation = operation,
            .signaled = true,
            .address = memory.data(),
            .bytes = bytes,
            .local_key = region->local_key()};
  }
  WorkCompletion poll() {
    std::array<WorkCompletion, 1> one;
    EXPECT_EQ(completions->poll(one), 1) << "no completion";
    return one[0];
  }
  bool idle() {
    std::array<WorkCompletion, 1> one;
    return completions->poll(one) == 0;
  }

  std::vector<std::byte> memory = std::vector<std::byte>(4096);
  std::unique_ptr<Provider> provider;
  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> completions;
  std::unique_ptr<SharedReceiveQueue> receives;
  std::unique_ptr<MemoryRegion> region;
  std::unique_ptr<QueuePair> pair;
};

class FakeVerbs : public ::testing::Test {
 protected:
  FakeVerbs() {
    take(a.connect(b));
    take(b.connect(a));
  }
  FakeFabric fabric;
  End a{fabric};
  End b{fabric};
};

using Operation = SendRequest::Operation;

TEST_F(FakeVerbs, SendsArriveInReceiveBuffersInTheirOrder) {
  b.post_receive(1, 1024);
  b.post_receive(2, 2048);
  a.memory[0] = std::byte{17};
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 5, 8)), 0);
  a.memory[0] = std::byte{18};
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 6, 16)), 0);
  EXPECT_EQ(a.poll().id, 5u);
  EXPECT_EQ(a.poll().id, 6u);
  const WorkCompletion first = b.poll();
  EXPECT_TRUE(first.receive);
  EXPECT_EQ(first.id, 1u);
  EXPECT_EQ(first.bytes, 8u);
  EXPECT_EQ(first.queue_pair, b.pair->number());
  EXPECT_EQ(b.poll().bytes, 16u);
  EXPECT_EQ(b.memory[1024], std::byte{17});
  EXPECT_EQ(b.memory[2048], std::byte{18});
}

TEST_F(FakeVerbs, ReadsGetThePeersBytesAndAreRefusedWithoutItsKey) {
  b.memory[100] = std::byte{99};
  SendRequest read = a.request(Operation::kRead, 1, 16);
  read.remote_address = reinterpret_cast<std::uint64_t>(b.memory.data() + 100);
  read.remote_key = b.region->remote_key();
  EXPECT_EQ(a.pair->post_send(read), 0);
  EXPECT_EQ(a.poll().status, Status::kSuccess);
  EXPECT_EQ(a.memory[0], std::byte{99});

  read.remote_key += 2;
  EXPECT_EQ(a.pair->post_send(read), 0);
  EXPECT_EQ(a.poll().status, Status::kRemoteAccess);
  EXPECT_EQ(fabric.counters().refused, 1u);
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 2, 8)), 0);
  EXPECT_EQ(a.poll().status, Status::kFlushed) << "a failed pair flushes";
}

TEST_F(FakeVerbs, NoReceiveBufferIsReceiverNotReady) {
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 1, 8)), 0);
  EXPECT_EQ(a.poll().status, Status::kReceiverNotReady);
  EXPECT_EQ(fabric.counters().receiver_not_ready, 1u);
}

TEST_F(FakeVerbs, APortThatIsDownRaisesAnEventAndFailsWhatIsSentThroughIt) {
  fabric.set_port(1, 0, false);
  const std::optional<PortEvent> event = b.device->take_event();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->event, DeviceEvent::kPortDown);
  EXPECT_FALSE(b.device->take_event().has_value());
  EXPECT_FALSE(take(b.device->query_port(1)).active);
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 1, 8)), 0);
  EXPECT_EQ(a.poll().status, Status::kRetryExceeded);
}

TEST_F(FakeVerbs, AnArmedQueueAnnouncesOneCompletion) {
  b.post_receive(1, 1024);
  b.post_receive(2, 1024);
  EXPECT_EQ(b.completions->arm(), 0);
  pollfd ready{.fd = b.device->completion_descriptor(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&ready, 1, 0), 0);
  a.pair->post_send(a.request(Operation::kSend, 1, 8));
  a.pair->post_send(a.request(Operation::kSend, 2, 8));
  EXPECT_EQ(poll(&ready, 1, 0), 1);
  EXPECT_EQ(b.device->take_completion_event(), b.completions.get());
  EXPECT_EQ(b.device->take_completion_event(), nullptr);
}

TEST_F(FakeVerbs, AFullSendQueueRefusesUntilACompletionGivesRoomBack) {
  for (std::uint64_t id = 1; id <= 8; ++id)
    b.post_receive(id, 1024);
  SendRequest silent = a.request(Operation::kSend, 1, 8);
  silent.signaled = false;
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(a.pair->post_send(silent), 0);
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 2, 8)), 0);
  EXPECT_EQ(a.poll().id, 2u);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(a.pair->post_send(silent), 0);
  EXPECT_EQ(a.pair->post_send(silent), ENOMEM);
}

TEST_F(FakeVerbs, WhatIsHeldHappensWhenItIsLetGo) {
  b.post_receive(1, 1024);
  fabric.hold(true);
  a.pair->post_send(a.request(Operation::kSend, 1, 8));
  EXPECT_TRUE(a.idle());
  EXPECT_EQ(fabric.let_go(1), 1u);
  EXPECT_EQ(a.poll().id, 1u);
}

TEST_F(FakeVerbs, EveryStepCanFailAndNothingIsLeftOpen) {
  const std::size_t live = fabric.live();
  fabric.fail(Step::kRegisterMemory, 0, 1, ENOMEM);
  EXPECT_FALSE(a.device->register_memory(a.memory.data(), 8, kLocalWrite).ok());
  fabric.fail(Step::kCreateQueuePair, 1, 1, ENOMEM);
  a.renew();
  EXPECT_FALSE(a.device->create_queue_pair({.completions = a.completions.get()}).ok());
  fabric.fail(Step::kConnect, 0, 1, ETIMEDOUT);
  EXPECT_FALSE(a.connect(b).ok());
  fabric.fail(Step::kPostSend, 0, 1, ENOMEM);
  take(a.connect(b));
  EXPECT_EQ(a.pair->post_send(a.request(Operation::kSend, 1, 8)), ENOMEM);
  EXPECT_EQ(fabric.live(), live);
}

TEST(SystemVerbs, AMachineWithoutADeviceGivesAnEmptyListOrAReason) {
  Result<std::unique_ptr<Provider>> provider = open_system_provider();
  if (!provider) {
    EXPECT_FALSE(provider.failure().message.empty());
    return;
  }
  Result<std::vector<PortInfo>> ports = provider.value()->ports();
  if (!ports) {
    EXPECT_FALSE(ports.failure().message.empty());
    return;
  }
  for (const PortInfo& port : ports.value()) {
    EXPECT_FALSE(port.device.empty());
    EXPECT_FALSE(port.state.empty());
  }
  EXPECT_FALSE(provider.value()->open("no such device").ok());
}

}  // namespace
}  // namespace mooncake_mpi::verbs_driver
