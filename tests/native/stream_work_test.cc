// What streams of the fake driver do when they are told to, and when nobody tells them.
#include "memory/cuda/stream_work.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "cuda_pair.h"
#include "effort.h"

namespace mooncake_mpi::testing {
namespace {

using namespace cuda_driver;
using cuda::StreamWork;
using Wait = StreamWork::Wait;

constexpr std::size_t kBytes = 300'000;

class StreamWorkTest : public ::testing::TestWithParam<Wait>, public CudaPair {
 protected:
  StreamWorkTest() : CudaPair(kBytes) {
    static auto& kept = *new std::vector<std::unique_ptr<Stream>>;
    stream_ = kept.emplace_back(memory_.driver().make_stream(device_).value()).get();
  }

  StreamHandle handle() const { return reinterpret_cast<StreamHandle>(stream_->handle); }
  std::shared_ptr<StreamWork> work() {
    return memory_.works().take(device_, kBytes, GetParam()).value();
  }
  cuda::Order order(std::size_t count) const {
    return {.to = number(to_), .from = number(from_), .bytes = count};
  }
  template <class Predicate>
  static bool comes(Predicate predicate) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!predicate()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  bool stream_ends() {
    return comes([this] { return fake_cuda_pending(stream_->handle) == 0; });
  }

  Stream* stream_ = nullptr;  // as a program's
};

TEST_P(StreamWorkTest, ItWaitsUntilItIsToldWhatToCopy) {
  auto work = this->work();
  ASSERT_TRUE(work->claim(handle()).ok());
  EXPECT_TRUE(work->claimed());
  EXPECT_TRUE(memory_.gates().some_closed());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_NE(fake_cuda_pending(stream_->handle), 0);
  EXPECT_FALSE(work->done());
  EXPECT_TRUE(work->order(order(kBytes - 1)));
  EXPECT_FALSE(memory_.gates().some_closed());
  ASSERT_TRUE(comes([&] { return work->done(); }));
  EXPECT_EQ(bytes(to_)[kBytes - 2], 7);
  EXPECT_EQ(bytes(to_)[kBytes - 1], 1);
  EXPECT_FALSE(work->order(order(kBytes)));
}

TEST_P(StreamWorkTest, TheFirstOrderCountsAlsoWhereItComesBeforeTheStream) {
  auto work = this->work();
  EXPECT_TRUE(work->order(order(10)));
  EXPECT_FALSE(work->order({}));
  EXPECT_FALSE(work->done());
  ASSERT_TRUE(work->claim(handle()).ok());
  EXPECT_FALSE(memory_.gates().some_closed());
  ASSERT_TRUE(comes([&] { return work->done(); }));
  EXPECT_EQ(bytes(to_)[9], 7);
  EXPECT_EQ(bytes(to_)[10], 1);
}

TEST_P(StreamWorkTest, BytesThatAreGivenNeedNoOtherMemory) {
  auto work = this->work();
  ASSERT_TRUE(work->claim(handle()).ok());
  std::vector<std::byte> given;
  for (int i = 0; i < 24; ++i)
    given.push_back(std::byte(i + 50));
  EXPECT_TRUE(work->order({.to = number(to_), .bytes = 23, .given = given.data()}));
  ASSERT_TRUE(comes([&] { return work->done(); }));
  EXPECT_EQ(std::memcmp(bytes(to_), given.data(), 23), 0);
  EXPECT_EQ(bytes(to_)[23], 1);
}

TEST_P(StreamWorkTest, AStreamThatNobodyTellsAnythingGoesOnAtTheEnd) {
  auto work = this->work();
  ASSERT_TRUE(work->claim(handle()).ok());
  work.reset();
  EXPECT_TRUE(stream_ends());
  EXPECT_FALSE(memory_.gates().some_closed());
  EXPECT_EQ(bytes(to_)[0], 1);
}

TEST_P(StreamWorkTest, ADriverThatRefusesLeavesNothingThatWaits) {
  auto work = this->work();
  fake_cuda_fail("cuLaunchKernel", 801, 0, 1);
  EXPECT_FALSE(work->claim(handle()).ok());
  EXPECT_FALSE(work->claimed());
  EXPECT_FALSE(memory_.gates().some_closed());
  EXPECT_TRUE(stream_ends());
  work.reset();
  auto next = this->work();
  ASSERT_TRUE(next->claim(handle()).ok());
  EXPECT_TRUE(next->order(order(kBytes)));
  EXPECT_TRUE(comes([&] { return next->done(); }));
}

// More than once around, with streams that have yet to come to what was ordered long ago.
TEST_P(StreamWorkTest, ManyAreUsedAgain) {
  for (int turn = 0; turn < 5000; ++turn) {
    auto work = this->work();
    ASSERT_NE(work, nullptr);
    ASSERT_TRUE(work->claim(handle()).ok());
    ASSERT_TRUE(work->order({}));
    if (turn % 1000 == 0) {
      ASSERT_TRUE(stream_ends());
    }
  }
}

// The two meet at any point of each other.
TEST_P(StreamWorkTest, OrdersRaceWithStreams) {
  for (int turn = 0; turn < effort(300); ++turn) {
    auto work = this->work();
    std::thread orders([&] { work->order(order(8)); });
    ASSERT_TRUE(work->claim(handle()).ok());
    orders.join();
    ASSERT_TRUE(comes([&] { return work->done(); }));
    ASSERT_FALSE(memory_.gates().some_closed());
  }
}

INSTANTIATE_TEST_SUITE_P(Waits, StreamWorkTest, ::testing::Values(Wait::kByKernel, Wait::kByStream),
                         [](const auto& wait) {
                           return wait.param == Wait::kByKernel ? "ByKernel" : "ByStream";
                         });

TEST(StreamWorks, ADeviceWithoutTheKernelsHasNone) {
  cuda::GpuMemory& memory = fresh_cuda_memory();
  fake_cuda_fail("cuModuleLoadData", 222, 0, 1);
  EXPECT_EQ(memory.works().take(0, 100, Wait::kByKernel).value(), nullptr);
  EXPECT_EQ(memory.works().take(0, 100, Wait::kByKernel).value(), nullptr);
  EXPECT_EQ(fake_cuda_calls("cuLaunchKernel"), 0);
  fake_cuda_reset();
}

}  // namespace
}  // namespace mooncake_mpi::testing
