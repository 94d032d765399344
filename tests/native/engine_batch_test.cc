// Several sends and receives that are posted as one: their order, what a failure among them leaves,
// and that no other thread finds a part of them.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>

#include "engine_process.h"
#include "fake_device.h"

namespace mooncake_mpi::testing {
namespace {

Buffer buffer_of(void* data, std::size_t bytes) {
  return {static_cast<std::byte*>(data), bytes};
}

Posting receive_of(const Process& process, int source, int tag, void* data, std::size_t bytes) {
  return {.context = process.context,
          .kind = Posting::Kind::kReceive,
          .rank = source,
          .tag = tag,
          .buffer = buffer_of(data, bytes)};
}

Posting send_of(const Process& process, int dest, int tag, const void* data, std::size_t bytes,
                SendMode mode = SendMode::kStandard) {
  return {.context = process.context,
          .kind = Posting::Kind::kSend,
          .mode = mode,
          .rank = dest,
          .tag = tag,
          .buffer = buffer_of(const_cast<void*>(data), bytes)};
}

class EngineBatch : public TwoProcesses {
 protected:
  // Waits for all that was started, and lets go of it.
  static void finish(Process& process, std::vector<Posting>& batch) {
    for (Posting& posting : batch) {
      ASSERT_EQ(posting.error, Error::kNone) << posting.reason;
      if (posting.operation == nullptr) continue;
      ASSERT_TRUE(process.wait(*posting.operation));
    }
  }
};

TEST_F(EngineBatch, MessagesOfABatchMatchTheReceivesOfABatchInOrder) {
  // Below and above the eager limit, in each mode: one tag, so that only their order tells them.
  constexpr std::size_t kCount = 12;
  constexpr std::size_t kWords[] = {1, 300'000, 2, 20'000};
  constexpr SendMode kModes[] = {SendMode::kStandard, SendMode::kSynchronous, SendMode::kBuffered};
  std::vector<std::vector<int>> out(kCount), in(kCount);
  std::vector<Posting> sends, receives;
  for (std::size_t i = 0; i < kCount; ++i) {
    out[i].assign(kWords[i % std::size(kWords)], static_cast<int>(i + 1));
    in[i].assign(out[i].size(), 0);
    const std::size_t bytes = out[i].size() * sizeof(int);
    sends.push_back(send_of(first(), 1, 4, out[i].data(), bytes, kModes[i % std::size(kModes)]));
    receives.push_back(receive_of(second(), i % 2 == 0 ? 0 : kAnySource, i % 5 == 0 ? kAnyTag : 4,
                                  in[i].data(), bytes));
  }
  std::thread receiver([&] {
    second().engine->post(receives);
    finish(second(), receives);
  });
  first().engine->post_and_leave(sends);
  finish(first(), sends);
  receiver.join();
  for (std::size_t i = 0; i < kCount; ++i)
    EXPECT_EQ(in[i], out[i]) << i;
}

TEST_F(EngineBatch, ReceivesAndSendsToTheProcessItselfAreOneBatch) {
  std::vector<int> out(6), in(6, -1);
  std::iota(out.begin(), out.end(), 0);
  std::vector<Posting> batch;
  for (std::size_t i = 0; i < out.size(); ++i) {
    batch.push_back(receive_of(first(), 0, 1, &in[i], sizeof(int)));
    batch.push_back(send_of(first(), 0, 1, &out[i], sizeof(int)));
    if (i % 2 != 0) std::swap(batch[2 * i], batch[2 * i + 1]);
  }
  first().engine->post(batch);
  finish(first(), batch);
  EXPECT_EQ(in, out);
}

TEST_F(EngineBatch, AReceiveOfAnySizeGetsMemoryForItsMessage) {
  const int sent[3] = {1, 2, 3};
  std::vector<Posting> batch;
  batch.push_back(receive_of(second(), 0, 1, nullptr, 0));
  batch[0].kind = Posting::Kind::kReceiveAnySize;
  second().engine->post(batch);
  std::vector<Posting> sends;
  for (const int tag : {1, 2})
    sends.push_back(send_of(first(), 1, tag, sent, sizeof sent));
  first().engine->post(sends);
  EXPECT_EQ(sends[1].operation, nullptr);  // a small one to a peer that is known is done at once
  finish(first(), sends);
  Operation& receive = *batch[0].operation;
  ASSERT_EQ(second().engine->wait([&] { return receive.done.load(); }, kDeadline),
            WaitResult::kDone);
  ASSERT_EQ(receive.completion.bytes, sizeof sent);
  EXPECT_EQ(std::memcmp(receive.owned_buffer.get(), sent, sizeof sent), 0);
  second().engine->release(receive);
}

TEST_F(EngineBatch, DeviceMemoryGoesThroughSourcesAndSinks) {
  EngineConfig config;
  config.progress_thread = false;  // the device is this thread's
  ASSERT_NO_FATAL_FAILURE(start(config));
  FakeDevice& device = fake_device();
  const FakeDevice::Block out = device.allocate(20'000), in = device.allocate(20'000);
  std::ranges::fill(out.bytes, std::byte{3});
  std::ranges::fill(in.bytes, std::byte{0});
  Posting receive = receive_of(second(), 0, 1, in.address, in.bytes.size());
  Posting send = send_of(first(), 1, 1, out.address, out.bytes.size());
  receive.buffer.device = send.buffer.device = &device;
  second().engine->post({&receive, 1});
  first().engine->post({&send, 1});
  ASSERT_EQ(receive.error, Error::kNone) << receive.reason;
  ASSERT_EQ(send.error, Error::kNone) << send.reason;
  const std::uint64_t start = now_ns();
  while ((!send.operation->done || !receive.operation->done) && now_ns() - start < kDeadline) {
    first().engine->progress();
    second().engine->progress();
  }
  ASSERT_TRUE(receive.operation->done);
  EXPECT_TRUE(std::ranges::equal(in.bytes, out.bytes));
  first().engine->release(*send.operation);
  second().engine->release(*receive.operation);
  device.free(out);
  device.free(in);
}

TEST_F(EngineBatch, WhatFailsInTheMiddleLeavesTheRestPosted) {
  Process revoked{nullptr, make_communicator(processes_)[0]};
  first().engine->revoke(*revoked.context);
  const int out[2] = {1, 2};
  int in[3] = {0, 0, 0};
  std::vector<Posting> batch;
  batch.push_back(receive_of(first(), 0, 1, &in[0], sizeof(int)));
  batch.push_back(send_of(revoked, 1, 1, &out[0], sizeof(int)));
  batch.push_back(receive_of(revoked, 1, 1, &in[2], sizeof(int)));
  batch.push_back(send_of(first(), 0, 1, &out[0], sizeof(int)));
  batch.push_back(send_of(first(), 0, 1, &out[1], sizeof(int)));
  batch.push_back(receive_of(first(), 0, 1, &in[1], sizeof(int)));
  first().engine->post_and_leave(batch);
  // A send that cannot begin has no operation, as send() gives none; a receive's ends.
  EXPECT_EQ(batch[1].operation, nullptr);
  EXPECT_EQ(batch[1].error, Error::kRevoked);
  EXPECT_EQ(batch[1].reason, "the communicator was revoked");
  ASSERT_NE(batch[2].operation, nullptr);
  EXPECT_EQ(batch[2].operation->completion.error, Error::kRevoked);
  batch[1].error = Error::kNone;
  finish(first(), batch);
  EXPECT_EQ(in[0], 1);
  EXPECT_EQ(in[1], 2);
}

TEST_F(EngineBatch, AnotherThreadNeverFindsAPartOfItPosted) {
  constexpr std::size_t kBatch = 24;
  constexpr int kRounds = 3000;
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> looks{0};
  std::size_t parts = 0;
  std::thread observer([&] {
    while (!stop) {
      first().engine->inspect(
          [&](Protocol&) { parts += first().context->posted_count() % kBatch != 0; });
      looks.fetch_add(1);
    }
  });
  std::vector<Posting> batch(kBatch);
  int value = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::size_t before = looks;
    for (Posting& posting : batch)
      posting = receive_of(first(), 1, round, &value, sizeof value);
    first().engine->post(batch);
    // Those of one look at least in between; they stay posted, and end with the engine.
    while (round % 100 == 0 && looks == before)
      std::this_thread::yield();
  }
  stop = true;
  observer.join();
  EXPECT_EQ(parts, 0u) << "of " << looks << " looks";
  EXPECT_EQ(first().context->posted_count(), kBatch * kRounds);
}

}  // namespace
}  // namespace mooncake_mpi::testing
