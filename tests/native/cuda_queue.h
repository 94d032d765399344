// A queue of copies on the fake driver's first GPU with memory to copy, without any engine.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda_pair.h"
#include "drivers/cuda/fake/fake_cuda.h"
#include "lanes.h"
#include "memory/source.h"

namespace mooncake_mpi::testing {

using namespace cuda_driver;

inline constexpr std::size_t kBytes = 1000;

class CudaQueue : public ::testing::Test {
 protected:
  CudaQueue() : memory_(fresh_cuda_memory()) {
    address_ = allocate_cuda(kBytes);
    auto found = memory_.driver().locate(reinterpret_cast<DeviceAddress>(address_));
    device_ = found.value().device;
    static auto& kept = *new std::vector<std::unique_ptr<Stream>>;
    stream_ = kept.emplace_back(memory_.driver().make_stream(device_).value()).get();
  }
  ~CudaQueue() override {
    fake_cuda_reset();
    free_cuda(address_);
  }

  void hold_stream() {
    fake_cuda_hold(stream_->handle, 1);
    ASSERT_TRUE(memory_.driver().close_batch(*stream_).ok());
  }
  std::unique_ptr<Source> source() {
    const auto handle = reinterpret_cast<StreamHandle>(stream_->handle);
    return std::move(memory_.source({address_, kBytes, &memory_, handle}).value());
  }
  // As a thread that makes progress.
  template <class Predicate>
  bool comes(Predicate predicate) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!predicate()) {
      if (std::chrono::steady_clock::now() > end) return false;
      if (memory_.queue().waits()) memory_.queue().run();
      std::this_thread::yield();
    }
    return true;
  }

  cuda::GpuMemory& memory_;
  std::byte* address_ = nullptr;
  int device_ = -1;
  Stream* stream_ = nullptr;  // as a program's
};

// Copies of one byte each, of one array into another.
class CudaBatches : public CudaQueue {
 protected:
  static constexpr std::size_t kCopies = 10;

  CudaBatches() : target_(allocate_cuda(kCopies)) {
    auto* bytes = static_cast<char*>(fake_cuda_bytes(number(address_)));
    for (std::size_t i = 0; i < kCopies; ++i)
      bytes[i] = static_cast<char>('a' + i);
  }
  ~CudaBatches() override { free_cuda(target_); }

  static DeviceAddress number(const std::byte* address) {
    return reinterpret_cast<DeviceAddress>(address);
  }
  void submit(std::size_t count, bool more_to_come = false) {
    for (; count-- > 0; ++submitted_) {
      copies_.push_back(memory_.queue().submit({.kind = cuda::Copy::Kind::kPush,
                                                .device = device_,
                                                .to = number(target_) + submitted_,
                                                .from = number(address_) + submitted_,
                                                .bytes = 1,
                                                .after = nullptr}));
    }
    memory_.queue().run(more_to_come);
  }
  void expect_all() {
    ASSERT_EQ(submitted_, kCopies);
    for (const auto& copy : copies_) {
      ASSERT_TRUE(comes([&] { return copy->over(); }));
      EXPECT_FALSE(copy->failed());
    }
    EXPECT_EQ(std::string(static_cast<char*>(fake_cuda_bytes(number(target_))), kCopies),
              "abcdefghij");
    EXPECT_TRUE(memory_.queue().trouble().empty()) << memory_.queue().trouble();
    EXPECT_TRUE(comes([&] { return !memory_.queue().waits(); }));
  }

  std::byte* target_;
  std::size_t submitted_ = 0;
  std::vector<std::shared_ptr<cuda::Copy>> copies_;
};

}  // namespace mooncake_mpi::testing
