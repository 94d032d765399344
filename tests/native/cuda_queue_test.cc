// Copies of the fake driver's GPUs, and moments of its streams, without any engine: what a thread
// that waits is told of them, and what becomes of them when a device or its driver fails.
#include "cuda_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "drivers/cuda/fake/driver.h"
#include "drivers/cuda/fake/fake_cuda.h"
#include "memory/source.h"

namespace mooncake_mpi::testing {
namespace {

using fake::CUgraph;
using fake::cuStreamBeginCapture;
using fake::cuStreamEndCapture;

TEST_F(CudaQueue, NobodySleepsWhileAStreamHasYetToComeToAMessage) {
  EXPECT_EQ(memory_.queue().nap_ns(), UINT64_MAX);
  hold_stream();
  auto held = source();
  EXPECT_TRUE(held->at(0, kBytes).empty());
  EXPECT_LE(memory_.queue().nap_ns(), 1'000'000u);
  EXPECT_TRUE(memory_.queue().waits());
  fake_cuda_hold(stream_->handle, 0);
  EXPECT_TRUE(comes([&] { return !held->at(0, kBytes).empty(); }));
  EXPECT_TRUE(comes([&] { return memory_.queue().nap_ns() == UINT64_MAX; }));
  EXPECT_FALSE(memory_.queue().waits());
}

TEST_F(CudaQueue, AMomentThatNobodyWaitsForAnyMoreIsForgottenInTheEnd) {
  hold_stream();
  for (int i = 0; i < 1000; ++i)
    EXPECT_TRUE(source()->at(0, kBytes).empty());
  fake_cuda_hold(stream_->handle, 0);
  EXPECT_TRUE(comes([&] { return memory_.queue().nap_ns() == UINT64_MAX; }));
  for (int i = 0; i < 1000; ++i) {
    auto next = source();
    ASSERT_TRUE(comes([&] { return !next->at(0, kBytes).empty(); }));
  }
}

TEST_F(CudaQueue, ADeviceThatFailsBeforeAnythingWasCopiedIsNoticed) {
  hold_stream();
  auto held = source();
  EXPECT_TRUE(held->at(0, kBytes).empty());
  fake_cuda_break(CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_TRUE(comes([&] { return held->at(0, kBytes).empty() && held->failed(); }));
  EXPECT_FALSE(memory_.queue().trouble().empty());
  EXPECT_TRUE(comes([&] { return !memory_.queue().waits(); }));
}

TEST_F(CudaQueue, ACopyWhoseEndCannotBeSeenHasFailed) {
  auto first = source();
  ASSERT_TRUE(comes([&] { return !first->at(0, kBytes).empty(); }));
  fake_cuda_fail("cuStreamWriteValue32", CUDA_ERROR_INVALID_VALUE, 0, 1);
  auto second = source();
  EXPECT_TRUE(comes([&] { return !second->at(0, kBytes).empty() || second->failed(); }));
  EXPECT_TRUE(second->failed());
}

TEST_F(CudaBatches, WhatComesWhileAnEngineIsBusyIsGivenToItAtOnce) {
  fake_cuda_operation_time(20'000);
  submit(1);
  submit(1);
  submit(kCopies - 2);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyAsync"), 2);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyBatchAsync"), 0);
  expect_all();
  EXPECT_EQ(fake_cuda_calls("cuMemcpyAsync"), 2);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyBatchAsync"), 1);
}

TEST_F(CudaBatches, WhileMoreIsToComeABatchIsWaitedForWhereTheEngineIsBusy) {
  constexpr bool kMoreToCome = true;
  fake_cuda_operation_time(20'000);
  submit(1, kMoreToCome);  // at once: the engine has nothing to do
  submit(7, kMoreToCome);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyBatchAsync"), 0);
  submit(1, kMoreToCome);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyBatchAsync"), 1);
  submit(1, kMoreToCome);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyAsync"), 1);
  expect_all();
  EXPECT_EQ(fake_cuda_calls("cuMemcpyAsync"), 2);
}

TEST_F(CudaBatches, WhatTheDriverRefusesAtOnceIsCopiedOneByOne) {
  fake_cuda_fail("cuMemcpyBatchAsync", CUDA_ERROR_NOT_SUPPORTED, 0, -1);
  submit(kCopies);
  expect_all();
  EXPECT_EQ(fake_cuda_calls("cuMemcpyBatchAsync"), 1);
  EXPECT_EQ(fake_cuda_calls("cuMemcpyAsync"), static_cast<long>(kCopies));
}

TEST_F(CudaBatches, ACopyThatWaitsForItsTurnCanBeDropped) {
  fake_cuda_operation_time(20'000);
  submit(1);
  submit(1);
  auto late = memory_.queue().submit({.kind = cuda::Copy::Kind::kPush,
                                      .device = device_,
                                      .to = number(target_),
                                      .from = number(address_) + 5,
                                      .bytes = 1,
                                      .after = nullptr});
  memory_.queue().run();
  EXPECT_FALSE(late->over());
  memory_.queue().drop(*late);
  submit(kCopies - 2);
  expect_all();
}

// Who drops it may be who opens the gate.
TEST_F(CudaBatches, ACopyBehindAStreamThatWaitsIsLeftBehind) {
  fake_cuda_operation_time(400'000);  // as if that stream held the engine's channel
  submit(1);
  EXPECT_FALSE(copies_[0]->over());
  auto gate = memory_.gates().close(device_, reinterpret_cast<StreamHandle>(stream_->handle));
  ASSERT_TRUE(gate.ok());
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(memory_.queue().drop(*copies_[0]));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(350));
  gate.value().open();
  EXPECT_TRUE(memory_.queue().drop(*copies_[0]));  // it is waited for
  EXPECT_TRUE(copies_[0]->over());
  fake_cuda_operation_time(0);
  submit(kCopies - 1);
  expect_all();
}

TEST_F(CudaQueue, DeferredCallsWithoutMemoryAreMadeLater) {
  int calls = 0;
  memory_.queue().defer([&] {
    if (++calls < 3) throw std::bad_alloc();
  });
  bool next = false;
  memory_.queue().defer([&] { next = true; });
  EXPECT_TRUE(comes([&] { return !memory_.queue().waits(); }));
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(next);
}

TEST_F(CudaQueue, NoCallEndsACaptureOfAnotherThread) {
  CUgraph graph = nullptr;
  const std::unique_ptr<Stream> captured(memory_.driver().make_stream(device_).value());
  ASSERT_EQ(cuStreamBeginCapture(captured->handle, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  std::thread([&] {
    auto idle = source();
    EXPECT_TRUE(comes([&] { return !idle->at(0, kBytes).empty(); }));
    hold_stream();
    auto held = source();
    fake_cuda_hold(stream_->handle, 0);
    EXPECT_TRUE(comes([&] { return !held->at(0, kBytes).empty(); }));
    const auto base = reinterpret_cast<DeviceAddress>(address_);
    auto handle = memory_.driver().export_memory(device_, base);
    ASSERT_TRUE(handle.ok());
    auto opened = memory_.driver().open_memory(device_, handle.value());
    ASSERT_TRUE(opened.ok());
    memory_.driver().close_memory(device_, opened.value());
  }).join();
  EXPECT_TRUE(memory_.queue().trouble().empty()) << memory_.queue().trouble();
  EXPECT_EQ(cuStreamEndCapture(captured->handle, &graph), CUDA_SUCCESS);
}

TEST_F(CudaQueue, AGateHoldsItsStreamUntilItIsOpened) {
  const auto handle = reinterpret_cast<StreamHandle>(stream_->handle);
  for (const bool at_its_end : {false, true}) {
    auto gate = memory_.gates().close(device_, handle);
    ASSERT_TRUE(gate.ok());
    EXPECT_TRUE(memory_.gates().some_closed());
    ASSERT_TRUE(memory_.driver().close_batch(*stream_).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_NE(stream_->word->load(), stream_->submitted);
    if (at_its_end) {
      const cuda::Gate ends = std::move(gate).value();
    } else {
      gate.value().open();
    }
    EXPECT_FALSE(memory_.gates().some_closed());
    EXPECT_TRUE(comes([&] { return stream_->word->load() == stream_->submitted; }));
  }
}

TEST_F(CudaQueue, AGateThatTheDriverRefusesIsNotClosed) {
  fake_cuda_fail("cuStreamWaitValue32", CUDA_ERROR_NOT_SUPPORTED, 0, 1);
  auto gate = memory_.gates().close(device_, reinterpret_cast<StreamHandle>(stream_->handle));
  ASSERT_FALSE(gate.ok());
  EXPECT_NE(gate.failure().message.find("CUDA_ERROR_NOT_SUPPORTED"), std::string::npos);
  EXPECT_FALSE(memory_.gates().some_closed());
}

// Who makes progress is who opens gates.
TEST_F(CudaQueue, NobodyWhoMakesProgressWaitsForADriverThatWaitsForAGate) {
  auto first = source();
  ASSERT_TRUE(comes([&] { return !first->at(0, kBytes).empty(); }));
  fake_cuda_define_kernel(
      "nothing", [](const fake_cuda_launch*, void*) { return int{FAKE_CUDA_DONE}; }, nullptr,
      nullptr, 0);
  const Library& cuda = *Library::load().value();
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  ASSERT_EQ(cuda.cuDevicePrimaryCtxRetain(&context, device_), CUDA_SUCCESS);
  ASSERT_EQ(cuda.cuCtxPushCurrent(context), CUDA_SUCCESS);
  ASSERT_EQ(cuda.cuModuleLoadData(&module, "any image"), CUDA_SUCCESS);
  ASSERT_EQ(cuda.cuModuleGetFunction(&function, module, "nothing"), CUDA_SUCCESS);
  auto second = source();  // its moment is taken before the driver is held
  auto gate = memory_.gates().close(device_, reinterpret_cast<StreamHandle>(stream_->handle));
  ASSERT_TRUE(gate.ok());
  const long launches = fake_cuda_calls("cuLaunchKernel");
  std::thread launch([&] {
    EXPECT_EQ(cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream_->handle, nullptr, nullptr),
              CUDA_SUCCESS);
  });
  while (fake_cuda_calls("cuLaunchKernel") == launches)
    std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  while (std::chrono::steady_clock::now() < until) {
    EXPECT_TRUE(second->at(0, kBytes).empty());  // wants a copy
    memory_.queue().run();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  gate.value().open();
  launch.join();
  EXPECT_TRUE(comes([&] { return !second->at(0, kBytes).empty(); }));
  EXPECT_EQ(cuda.cuCtxPopCurrent(&context), CUDA_SUCCESS);
}

// Otherwise whoever then launches a kernel for the first time may get at the driver before it.
TEST_F(CudaQueue, NoGateIsClosedWhileWhoMakesProgressIsAtTheDriver) {
  std::atomic<int> stage{0};
  memory_.queue().defer([&] {
    stage = 1;
    while (stage != 2)
      std::this_thread::yield();
  });
  std::thread progress([&] { memory_.queue().run(); });
  while (stage != 1)
    std::this_thread::yield();
  const long waits = fake_cuda_calls("cuStreamWaitValue32");
  std::thread program([&] {
    auto gate = memory_.gates().close(device_, reinterpret_cast<StreamHandle>(stream_->handle));
    EXPECT_TRUE(gate.ok());
    EXPECT_EQ(stage, 2);
  });
  while (!memory_.gates().some_closed())
    std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(fake_cuda_calls("cuStreamWaitValue32"), waits);
  memory_.queue().run();  // others are not kept
  stage = 2;
  program.join();
  progress.join();
  EXPECT_EQ(fake_cuda_calls("cuStreamWaitValue32"), waits + 1);
  EXPECT_FALSE(memory_.gates().some_closed());
}

TEST(CudaThreads, AReceiveThatIsLeftBehindWakesAThreadThatSleeps) {
  const Lane lane{.name = "Cuda", .send_device = true, .receive_device = true, .cuda = true};
  constexpr std::size_t kLarge = 300'000;
  Job job(lane, 2);
  MessageBytes message(1, kLarge);
  GuardedBuffer target(kLarge);
  Operation& send = job[0].send(1, 5, message.buffer());
  job.settle();
  std::thread waiter([&] { job[1].wait(1'500'000'000, true); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // it sleeps
  Operation& receive = job[1].receive(0, 5, target.buffer());
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (!receive.done && std::chrono::steady_clock::now() < end) {
    job[0].progress();
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_TRUE(receive.done);
  waiter.join();
  ASSERT_TRUE(job.finish({&send, &receive}));
  target.expect(1, kLarge);
}

}  // namespace
}  // namespace mooncake_mpi::testing
