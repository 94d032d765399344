// The fake driver, loaded as the engine loads the real one, for tests in one process.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "drivers/cuda/fake/fake_cuda.h"
#include "drivers/cuda/library.h"

namespace mooncake_mpi::fake_cuda_test {

using namespace cuda_driver;

inline const Library& cuda() {
  static const Library* const library = Library::load(MOONCAKE_MPI_FAKE_CUDA).value();
  return *library;
}

template <class Predicate>
bool soon(Predicate predicate, int milliseconds = 5000) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

inline void some_time() {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

// A context of the first device is current; the device's end takes all that a test left there.
class FakeCuda : public testing::Test {
 protected:
  FakeCuda() {
    EXPECT_EQ(cuda().cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    EXPECT_EQ(cuda().cuCtxPushCurrent(context), CUDA_SUCCESS);
  }
  ~FakeCuda() override {
    fake_cuda_reset();
    fake_cuda_operation_time(5);
    EXPECT_EQ(cuda().cuCtxPopCurrent(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(cuda().cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
    EXPECT_EQ(fake_cuda_contexts(), 0u);
    EXPECT_EQ(fake_cuda_in_call(), 0);
  }

  static CUdeviceptr allocate(std::size_t bytes) {
    CUdeviceptr address = 0;
    EXPECT_EQ(cuda().cuMemAlloc(&address, bytes), CUDA_SUCCESS);
    return address;
  }
  static std::uint32_t* pinned() {
    void* address = nullptr;
    EXPECT_EQ(cuda().cuMemHostAlloc(&address, 4096, CU_MEMHOSTALLOC_PORTABLE), CUDA_SUCCESS);
    auto* words = static_cast<std::uint32_t*>(address);
    for (int i = 0; i < 1024; ++i)
      store(words + i, 0);
    return words;
  }
  static CUstream stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream made = nullptr;
    EXPECT_EQ(cuda().cuStreamCreateWithPriority(&made, flags, 0), CUDA_SUCCESS);
    return made;
  }
  static CUevent event() {
    CUevent made = nullptr;
    EXPECT_EQ(cuda().cuEventCreate(&made, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
    return made;
  }
  static CUdeviceptr address(const void* host) { return reinterpret_cast<CUdeviceptr>(host); }
  static std::uint32_t load(const void* at) {
    return __atomic_load_n(static_cast<const std::uint32_t*>(at), __ATOMIC_ACQUIRE);
  }
  static void store(void* at, std::uint32_t value) {
    __atomic_store_n(static_cast<std::uint32_t*>(at), value, __ATOMIC_RELEASE);
  }
  static void wait_value(CUstream on, const void* at, std::uint32_t value) {
    EXPECT_EQ(cuda().cuStreamWaitValue32(on, address(at), value, CU_STREAM_WAIT_VALUE_GEQ),
              CUDA_SUCCESS);
  }
  static void write_value(CUstream on, const void* at, std::uint32_t value) {
    EXPECT_EQ(cuda().cuStreamWriteValue32(on, address(at), value, CU_STREAM_WRITE_VALUE_DEFAULT),
              CUDA_SUCCESS);
  }

  CUcontext context = nullptr;
};

}  // namespace mooncake_mpi::fake_cuda_test
