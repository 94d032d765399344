// The block of a kernel that stays on a device of the fake driver: it comes when messages are
// close, leaves when none come, and nothing that it is given as it leaves is lost.
#include "memory/cuda/resident.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "cuda_pair.h"

namespace mooncake_mpi::testing {
namespace {

using namespace cuda_driver;
using cuda::Copy;
using cuda::Resident;

constexpr std::size_t kBytes = 10'000;

class ResidentTest : public ::testing::Test, public CudaPair {
 protected:
  ResidentTest() : CudaPair(kBytes) {}

  std::shared_ptr<Copy> push(std::size_t offset, std::size_t count) {
    return memory_.queue().submit({.kind = Copy::Kind::kPush,
                                   .device = device_,
                                   .to = number(to_) + offset,
                                   .from = number(from_) + offset,
                                   .bytes = count,
                                   .after = nullptr,
                                   .reachable = true});
  }
  // As a thread that makes progress.
  bool ends(const Copy& copy) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!copy.over()) {
      if (std::chrono::steady_clock::now() > end) return false;
      memory_.queue().run();
    }
    memory_.queue().run();
    return true;
  }
  // A burst, in which it comes at the latest.
  void come() {
    for (int i = 0; i < 50; ++i) {
      std::vector<std::shared_ptr<Copy>> copies{push(0, 8), push(8, 8)};
      for (const auto& copy : copies)
        ASSERT_TRUE(ends(*copy));
    }
  }
};

TEST_F(ResidentTest, NothingOfItIsThereUnlessItIsAllowed) {
  come();
  EXPECT_EQ(fake_cuda_calls("cuModuleLoadData"), 0);
  EXPECT_EQ(fake_cuda_calls("cuLaunchKernel"), 0);
}

class AllowedResidentTest : public ResidentTest {
 protected:
  AllowedResidentTest() { Resident::allow(true); }
  ~AllowedResidentTest() override { Resident::allow(false); }
};

TEST_F(AllowedResidentTest, ItCopiesWhatComesCloselyAndNoEngineDoes) {
  come();
  const long launches = fake_cuda_calls("cuLaunchKernel");
  std::memset(bytes(to_), 1, kBytes);
  for (int i = 0; i < 200; ++i) {
    auto copy = push(static_cast<std::size_t>(i) * 40, 39);
    ASSERT_TRUE(ends(*copy));
    EXPECT_FALSE(copy->failed());
  }
  EXPECT_GT(launches, 3);  // of the three that load the kernels
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(bytes(to_)[i * 40 + 38], 7) << i;
    EXPECT_EQ(bytes(to_)[i * 40 + 39], 1) << i;
  }
}

TEST_F(AllowedResidentTest, WhatItIsGivenAsItLeavesIsDone) {
  come();
  for (int i = 0; i < 100; ++i) {
    // The fake's stays for a millisecond.
    std::this_thread::sleep_for(std::chrono::microseconds(i % 3 == 0 ? 900 + i * 2 : 20));
    auto copy = push(static_cast<std::size_t>(i), 1);
    ASSERT_TRUE(ends(*copy)) << i;
    EXPECT_FALSE(copy->failed());
  }
}

// What was given to one that has left, and cannot come again, ends as well.
TEST_F(AllowedResidentTest, WhatItIsGivenAsItLeavesForGoodFails) {
  for (int turn = 0; turn < 20; ++turn) {
    come();
    fake_cuda_fail("cuLaunchKernel", CUDA_ERROR_NOT_SUPPORTED, 0, -1);
    std::this_thread::sleep_for(std::chrono::microseconds(700 + 30 * turn));
    for (int i = 0; i < 3; ++i) {
      auto copy = push(static_cast<std::size_t>(i), 1);
      ASSERT_TRUE(ends(*copy)) << turn;
    }
    fake_cuda_fail("cuLaunchKernel", CUDA_ERROR_NOT_SUPPORTED, 0, 0);
  }
  EXPECT_EQ(memory_.queue().nap_ns(), UINT64_MAX);
}

TEST_F(AllowedResidentTest, AGreatManyAtOnceAreMoreThanItsSlots) {
  come();
  std::memset(bytes(to_), 1, kBytes);
  std::vector<std::shared_ptr<Copy>> copies;
  for (std::size_t i = 0; i < 1000; ++i)
    copies.push_back(push(i * 10, 9));
  for (const auto& copy : copies)
    ASSERT_TRUE(ends(*copy));
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(bytes(to_)[i * 10 + 8], 7);
    EXPECT_EQ(bytes(to_)[i * 10 + 9], 1);
  }
  EXPECT_EQ(memory_.queue().nap_ns(), UINT64_MAX);
}

TEST_F(AllowedResidentTest, ADriverThatRefusesItLeavesTheWorkToTheEngine) {
  fake_cuda_fail("cuLaunchKernel", CUDA_ERROR_NOT_SUPPORTED, 0, -1);
  come();
}

TEST_F(AllowedResidentTest, ADeviceThatFailsFailsWhatItWasGiven) {
  come();
  fake_cuda_break(CUDA_ERROR_LAUNCH_FAILED);
  auto copy = push(0, 8);
  EXPECT_TRUE(ends(*copy));
}

}  // namespace
}  // namespace mooncake_mpi::testing
