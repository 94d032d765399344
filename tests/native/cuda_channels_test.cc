// Copies beside streams of the program's that wait, and hold up the hardware's channels.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "cuda_queue.h"

namespace mooncake_mpi::testing {
namespace {

// Streams of the program's, one for each of the hardware's channels.
class CudaChannels : public CudaBatches {
 protected:
  static constexpr int kChannels = 8;

  CudaChannels() {
    static auto& streams = *new std::array<std::unique_ptr<Stream>, kChannels>;
    while (std::ranges::any_of(streams, [](const auto& stream) { return stream == nullptr; })) {
      auto made = std::unique_ptr<Stream>(memory_.driver().make_stream(device_).value());
      streams[static_cast<std::size_t>(fake_cuda_channel(made->handle))] = std::move(made);
    }
    std::ranges::transform(streams, streams_.begin(), [](const auto& one) { return one.get(); });
  }
  cuda::Gate close(int channel) {
    const Stream& stream = *streams_[static_cast<std::size_t>(channel)];
    return std::move(
        memory_.gates().close(device_, reinterpret_cast<StreamHandle>(stream.handle)).value());
  }

  std::array<Stream*, kChannels> streams_{};
};

TEST_F(CudaChannels, ACopyTakesOneThatNoStreamWaitsIn) {
  submit(1);
  for (int free = 0; free < kChannels; ++free) {
    std::vector<cuda::Gate> gates;
    for (int channel = 0; channel < kChannels; ++channel)
      if (channel != free) gates.push_back(close(channel));
    submit(1);
    EXPECT_TRUE(comes([&] { return copies_.back()->over(); })) << free;
  }
  submit(1);
  expect_all();
}

TEST_F(CudaChannels, ACopyThatFindsNoneCanBeWithdrawn) {
  submit(kCopies);
  expect_all();
  std::vector<cuda::Gate> gates;
  for (int channel = 0; channel < kChannels; ++channel)
    gates.push_back(close(channel));
  --submitted_;
  submit(1);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  EXPECT_FALSE(
      comes([&] { return copies_.back()->over() || std::chrono::steady_clock::now() > end; }) &&
      copies_.back()->over());
  EXPECT_TRUE(memory_.queue().withdraw(*copies_.back()));
  EXPECT_FALSE(memory_.queue().withdraw(*copies_.front()));
  EXPECT_TRUE(comes([&] { return !memory_.queue().waits(); }));
  gates.clear();
  --submitted_;
  submit(1);
  expect_all();
}

TEST_F(CudaChannels, StreamsThatComeToWaitMeanwhileHoldNoCopyUp) {
  constexpr int kRounds = 100;
  std::mt19937 random(7);
  for (int round = 0; round < kRounds; ++round) {
    std::array<int, kChannels> channels{};
    std::iota(channels.begin(), channels.end(), 0);
    std::shuffle(channels.begin(), channels.end(), random);
    const auto pause = std::chrono::microseconds(random() % 200);
    std::vector<cuda::Gate> gates;
    std::thread closes([&] {
      for (int i = 0; i + 1 < kChannels; ++i)
        gates.push_back(close(channels[static_cast<std::size_t>(i)]));
    });
    std::this_thread::sleep_for(pause);
    submitted_ = 0;
    submit(1);
    EXPECT_TRUE(comes([&] { return copies_.back()->over(); })) << round;
    closes.join();
    EXPECT_TRUE(memory_.gates().some_closed());
  }
  submit(kCopies - 1);
  copies_.erase(copies_.begin(), copies_.end() - kCopies);
  expect_all();
}

}  // namespace
}  // namespace mooncake_mpi::testing
