// The order in which the fake driver's hardware works: streams, events, channels and kernels.
#include <atomic>
#include <thread>

#include "drivers/cuda/fake/driver.h"
#include "fake_cuda_fixture.h"

namespace mooncake_mpi::fake_cuda_test {
namespace {

using FakeCudaStreams = FakeCuda;

TEST_F(FakeCudaStreams, AStreamWorksInOrderAndLater) {
  const CUstream s = stream();
  std::uint32_t* words = pinned();
  fake_cuda_hold(s, 1);
  write_value(s, words, 1);
  write_value(s, words, 2);
  EXPECT_EQ(fake_cuda_pending(s), 2);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_NOT_READY);
  fake_cuda_let_go(s, 1);
  EXPECT_TRUE(soon([&] { return fake_cuda_pending(s) == 1; }));
  some_time();
  EXPECT_EQ(load(words), 1u);
  fake_cuda_hold(s, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
  EXPECT_EQ(load(words), 2u);
}

TEST_F(FakeCudaStreams, AnOperationTakesItsTime) {
  fake_cuda_operation_time(200000);
  const CUstream s = stream();
  std::uint32_t* words = pinned();
  const auto start = std::chrono::steady_clock::now();
  write_value(s, words, 1);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_NOT_READY);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
}

TEST_F(FakeCudaStreams, AnEventStandsForItsLastRecord) {
  const CUstream s = stream();
  const CUstream waiting = stream();
  const CUevent e = event();
  std::uint32_t* words = pinned();
  EXPECT_EQ(cuda().cuEventQuery(e), CUDA_SUCCESS);
  fake_cuda_hold(s, 1);
  write_value(s, words, 1);
  EXPECT_EQ(cuda().cuEventRecord(e, s), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuEventQuery(e), CUDA_ERROR_NOT_READY);
  EXPECT_EQ(cuda().cuStreamWaitEvent(waiting, e, 0), CUDA_SUCCESS);
  write_value(waiting, words + 1, 1);
  // Recorded again on a stream that is idle; who waits already still waits for the first.
  EXPECT_EQ(cuda().cuEventRecord(e, stream()), CUDA_SUCCESS);
  EXPECT_TRUE(soon([&] { return cuda().cuEventQuery(e) == CUDA_SUCCESS; }));
  some_time();
  EXPECT_EQ(load(words + 1), 0u);
  fake_cuda_hold(s, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(waiting), CUDA_SUCCESS);
  EXPECT_EQ(load(words), 1u);
  EXPECT_EQ(load(words + 1), 1u);
}

TEST_F(FakeCudaStreams, ADestroyedStreamEndsItsWork) {
  const CUstream s = stream();
  std::uint32_t* words = pinned();
  fake_cuda_operation_time(5000);
  write_value(s, words, 1);
  EXPECT_EQ(cuda().cuStreamDestroy(s), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_TRUE(soon([&] { return load(words) == 1; }));
}

TEST_F(FakeCudaStreams, AWaitComparesAcrossTheEndOfTheNumbers) {
  const CUstream s = stream();
  std::uint32_t* words = pinned();
  store(words, 0xffffffff);
  wait_value(s, words, 2);
  some_time();
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_NOT_READY);
  store(words, 3);  // past it
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
}

TEST_F(FakeCudaStreams, AWaitHoldsUpTheStreamsOfItsChannelAndNoOther) {
  std::uint32_t* words = pinned();
  const CUstream waiting = stream();
  wait_value(waiting, words, 1);
  CUstream same = nullptr;
  CUstream other = nullptr;
  while (same == nullptr) {
    const CUstream s = stream();
    (fake_cuda_channel(s) == fake_cuda_channel(waiting) ? same : other) = s;
  }
  write_value(same, words + 1, 1);
  write_value(other, words + 2, 1);
  EXPECT_EQ(cuda().cuStreamSynchronize(other), CUDA_SUCCESS);
  some_time();
  EXPECT_EQ(load(words + 1), 0u);
  store(words, 1);
  EXPECT_EQ(cuda().cuStreamSynchronize(same), CUDA_SUCCESS);
}

TEST_F(FakeCudaStreams, TheLegacyStreamWorksInTurnWithBlockingStreams) {
  std::uint32_t* words = pinned();
  const CUstream blocking = stream(0);
  const CUstream free = stream();
  fake_cuda_hold(blocking, 1);
  write_value(blocking, words, 1);
  write_value(nullptr, words + 1, 1);
  write_value(blocking, words + 2, 1);
  write_value(free, words + 3, 1);
  EXPECT_EQ(cuda().cuStreamSynchronize(free), CUDA_SUCCESS);
  some_time();
  EXPECT_EQ(load(words + 1), 0u);
  fake_cuda_let_go(blocking, 1);
  EXPECT_TRUE(soon([&] { return load(words + 1) == 1; }));
  EXPECT_EQ(cuda().cuStreamQuery(kLegacyStream), CUDA_ERROR_NOT_READY);
  fake_cuda_hold(blocking, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(kLegacyStream), CUDA_SUCCESS);
  EXPECT_EQ(load(words + 2), 1u);
}

TEST_F(FakeCudaStreams, ABlockingStreamWaitsForTheLegacyStream) {
  std::uint32_t* words = pinned();
  const CUstream blocking = stream(0);
  fake_cuda_hold(kLegacyStream, 1);
  write_value(kLegacyStream, words, 1);
  write_value(blocking, words + 1, 1);
  some_time();
  EXPECT_EQ(load(words + 1), 0u);
  fake_cuda_hold(kLegacyStream, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(blocking), CUDA_SUCCESS);
  EXPECT_EQ(load(words), 1u);
}

TEST_F(FakeCudaStreams, EveryThreadHasAStreamOfItsOwn) {
  std::uint32_t* words = pinned();
  fake_cuda_hold(kPerThreadStream, 1);
  write_value(kPerThreadStream, words, 1);
  std::thread([&] {
    cuda().cuCtxPushCurrent(context);
    write_value(kPerThreadStream, words + 1, 1);
    EXPECT_EQ(cuda().cuStreamSynchronize(kPerThreadStream), CUDA_SUCCESS);
    cuda().cuCtxPopCurrent(nullptr);
  }).join();
  EXPECT_EQ(load(words), 0u);
  fake_cuda_hold(kPerThreadStream, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(kPerThreadStream), CUDA_SUCCESS);
}

TEST_F(FakeCudaStreams, ACapturingStreamRunsNothing) {
  const CUstream s = stream(0);
  std::uint32_t* words = pinned();
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  EXPECT_EQ(cuda().cuStreamIsCapturing(s, &status), CUDA_SUCCESS);
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
  fake_cuda_set_capturing(s, 1);
  EXPECT_EQ(cuda().cuStreamIsCapturing(s, &status), CUDA_SUCCESS);
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  EXPECT_NE(cuda().cuStreamIsCapturing(nullptr, &status), CUDA_SUCCESS);
  write_value(s, words, 1);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  some_time();
  EXPECT_EQ(load(words), 0u);
}

TEST_F(FakeCudaStreams, ACapturedStreamIsAGraphThatRunsWhenItIsLaunched) {
  const CUstream s = stream();
  std::uint32_t* words = pinned();
  fake::CUgraph graph = nullptr;
  fake::CUgraphExec exec = nullptr;
  ASSERT_EQ(fake::cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  wait_value(s, words, 1);
  write_value(s, words + 1, 5);
  ASSERT_EQ(fake::cuStreamEndCapture(s, &graph), CUDA_SUCCESS);
  ASSERT_EQ(fake::cuGraphInstantiate(&exec, graph, 0), CUDA_SUCCESS);
  for (int turn = 0; turn < 3; ++turn) {
    store(words, 0);
    store(words + 1, 0);
    ASSERT_EQ(fake::cuGraphLaunch(exec, s), CUDA_SUCCESS);
    some_time();
    EXPECT_EQ(load(words + 1), 0u);
    store(words, 1);
    EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
    EXPECT_EQ(load(words + 1), 5u);
  }
  EXPECT_EQ(fake::cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(fake::cuGraphDestroy(graph), CUDA_SUCCESS);
}

TEST_F(FakeCudaStreams, AnUnsafeCallEndsTheCapturesThatItsThreadMustNotDisturb) {
  const CUstream capturing = stream();
  const CUstream other = stream();
  for (const bool relaxed : {false, true}) {
    for (const CUstreamCaptureMode mode :
         {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL}) {
      ASSERT_EQ(fake::cuStreamBeginCapture(capturing, mode), CUDA_SUCCESS);
      const bool disturbs = !relaxed && mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
      std::thread([&] {
        CUstreamCaptureMode own = CU_STREAM_CAPTURE_MODE_RELAXED;
        if (relaxed) cuda().cuThreadExchangeStreamCaptureMode(&own);
        EXPECT_EQ(own, relaxed ? CU_STREAM_CAPTURE_MODE_GLOBAL : CU_STREAM_CAPTURE_MODE_RELAXED);
        EXPECT_EQ(cuda().cuStreamQuery(other),
                  disturbs ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS);
      }).join();
      fake::CUgraph graph = nullptr;
      EXPECT_EQ(fake::cuStreamEndCapture(capturing, &graph),
                disturbs ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
    }
  }
}

TEST_F(FakeCudaStreams, AnErrorOfTheDeviceEndsWaits) {
  const CUstream s = stream();
  wait_value(s, pinned(), 1);
  std::thread breaks([] {
    some_time();
    fake_cuda_break(CUDA_ERROR_LAUNCH_FAILED);
  });
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_ERROR_LAUNCH_FAILED);
  breaks.join();
}

TEST_F(FakeCudaStreams, ADelayedCallLetsOthersPass) {
  fake_cuda_delay("cuMemAlloc", 300000);
  std::thread slow([this] {
    cuda().cuCtxPushCurrent(context);
    allocate(64);
    cuda().cuCtxPopCurrent(nullptr);
  });
  EXPECT_TRUE(soon([] { return fake_cuda_in_call() == 1; }));
  stream();
  EXPECT_EQ(fake_cuda_in_call(), 1);
  slow.join();
}

class FakeCudaKernels : public FakeCuda {
 protected:
  static constexpr std::size_t kSizes[] = {sizeof(CUdeviceptr), sizeof(std::uint32_t)};

  static int set(const fake_cuda_launch* launch, void*) {
    store(fake_cuda_bytes(*static_cast<CUdeviceptr*>(launch->parameters[0])),
          *static_cast<std::uint32_t*>(launch->parameters[1]) + launch->grid[0]);
    return FAKE_CUDA_DONE;
  }
  // Spins until the word has the value.
  static int wait(const fake_cuda_launch* launch, void*) {
    const void* at = fake_cuda_bytes(*static_cast<CUdeviceptr*>(launch->parameters[0]));
    return load(at) == *static_cast<std::uint32_t*>(launch->parameters[1]) ? FAKE_CUDA_DONE
                                                                           : FAKE_CUDA_NOT_YET;
  }
  static int fault(const fake_cuda_launch*, void*) { return FAKE_CUDA_FAULT; }

  FakeCudaKernels() {
    fake_cuda_define_kernel("set", set, nullptr, kSizes, 2);
    fake_cuda_define_kernel("wait", wait, nullptr, kSizes, 2);
    fake_cuda_define_kernel("fault", fault, nullptr, kSizes, 2);
    EXPECT_EQ(cuda().cuModuleLoadData(&module, "any image"), CUDA_SUCCESS);
  }

  CUfunction function(const char* name) const {
    CUfunction found = nullptr;
    EXPECT_EQ(cuda().cuModuleGetFunction(&found, module, name), CUDA_SUCCESS);
    return found;
  }
  static CUresult launch(CUfunction of, CUstream on, CUdeviceptr at, std::uint32_t value) {
    void* parameters[] = {&at, &value};
    return cuda().cuLaunchKernel(of, 10, 1, 1, 32, 1, 1, 0, on, parameters, nullptr);
  }

  CUmodule module = nullptr;
};

TEST_F(FakeCudaKernels, AKernelRunsWithTheParametersOfItsLaunch) {
  const CUdeviceptr memory = allocate(64);
  const CUstream s = stream();
  fake_cuda_hold(s, 1);
  EXPECT_EQ(launch(function("set"), s, memory, 5), CUDA_SUCCESS);
  fake_cuda_hold(s, 0);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
  EXPECT_EQ(load(fake_cuda_bytes(memory)), 15u);
  EXPECT_EQ(launch(function("nobody's"), s, memory, 5), CUDA_ERROR_NOT_FOUND);
}

TEST_F(FakeCudaKernels, ASpinningKernelEndsWhenItsWordComes) {
  std::uint32_t* words = pinned();
  const CUstream s = stream();
  EXPECT_EQ(launch(function("wait"), s, address(words), 3), CUDA_SUCCESS);
  some_time();
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_NOT_READY);
  store(words, 3);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_SUCCESS);
}

TEST_F(FakeCudaKernels, TheEndOfTheContextWaitsForWhatRuns) {
  std::atomic<int> step = 0;
  const auto slow = [](const fake_cuda_launch* launch, void* user) {
    auto& at = *static_cast<std::atomic<int>*>(user);
    at = 1;
    some_time();
    store(fake_cuda_bytes(*static_cast<CUdeviceptr*>(launch->parameters[0])), 1);
    at = 2;
    return static_cast<int>(FAKE_CUDA_DONE);
  };
  fake_cuda_define_kernel("slow", slow, &step, kSizes, 2);
  EXPECT_EQ(launch(function("slow"), stream(), allocate(64), 0), CUDA_SUCCESS);
  EXPECT_TRUE(soon([&] { return step == 1; }));
  EXPECT_EQ(cuda().cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
  EXPECT_EQ(step, 2);
  EXPECT_EQ(cuda().cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
}

TEST_F(FakeCudaKernels, AKernelThatFaultsBreaksTheDevice) {
  const CUstream s = stream();
  EXPECT_EQ(launch(function("fault"), s, 0, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuda().cuStreamSynchronize(s), CUDA_ERROR_LAUNCH_FAILED);
  EXPECT_EQ(cuda().cuStreamQuery(s), CUDA_ERROR_LAUNCH_FAILED);
}

TEST_F(FakeCudaKernels, AFirstLaunchWaitsForAllStreamsAndKeepsTheLock) {
  std::uint32_t* words = pinned();
  const CUdeviceptr memory = allocate(64);
  const CUfunction set_word = function("set");
  const CUstream waiting = stream();
  const CUstream s = stream();
  wait_value(waiting, words, 1);
  std::atomic<bool> launched = false;
  std::atomic<bool> queried = false;
  std::thread launches([&] {
    EXPECT_EQ(launch(set_word, s, memory, 1), CUDA_SUCCESS);
    launched = true;
  });
  EXPECT_TRUE(soon([] { return fake_cuda_calls("cuLaunchKernel") > 0; }));
  some_time();
  std::thread queries([&] {
    EXPECT_NE(cuda().cuStreamQuery(s), CUDA_ERROR_INVALID_HANDLE);
    queried = true;
  });
  some_time();
  EXPECT_FALSE(launched);
  EXPECT_FALSE(queried);
  store(words, 1);
  launches.join();
  queries.join();
  // Loaded once, it is launched at once.
  wait_value(waiting, words, 2);
  EXPECT_EQ(launch(set_word, s, memory, 1), CUDA_SUCCESS);
  store(words, 2);
  EXPECT_EQ(cuda().cuStreamSynchronize(waiting), CUDA_SUCCESS);
}

}  // namespace
}  // namespace mooncake_mpi::fake_cuda_test
