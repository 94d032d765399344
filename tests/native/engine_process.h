// Two processes of a test, each an engine of its own over the lanes of this host, and the
// communicator that they share. Any thread of the test may call either of them.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace mooncake_mpi::testing {

inline constexpr std::uint64_t kSecond = 1'000'000'000;
inline constexpr std::uint64_t kDeadline = 20 * kSecond;
inline constexpr MatchChannel kChannel = MatchChannel::kMessages;

// One process of two: an engine with one communicator.
struct Process {
  std::unique_ptr<Engine> engine;
  Context* context = nullptr;

  Operation& send(int dest, int tag, const void* data, std::size_t bytes) {
    const Buffer buffer{static_cast<std::byte*>(const_cast<void*>(data)), bytes};
    Result<Operation*> operation =
        engine->send(*context, kChannel, dest, tag, buffer, SendMode::kStandard);
    if (!operation) std::abort();
    return *operation.value();
  }
  Operation& receive(int source, int tag, void* data, std::size_t bytes) {
    return *engine->receive(*context, kChannel, source, tag,
                            {static_cast<std::byte*>(data), bytes});
  }
  // False when it is not done within the deadline.
  bool wait(Operation& operation) {
    const WaitResult result =
        engine->wait([&] { return operation.done.load(std::memory_order_acquire); }, kDeadline);
    if (result != WaitResult::kDone) return false;
    engine->release(operation);
    return true;
  }
};

using Processes = std::array<Process, 2>;

// A communicator of both, as each of them knows it.
inline std::array<Context*, 2> make_communicator(const Processes& processes) {
  std::array<Context*, 2> contexts{};
  std::vector<wire::Address> members;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    Engine& engine = *processes[rank].engine;
    contexts[rank] = engine.create_context(static_cast<int>(rank), 2).value();
    members.push_back(engine.address(*contexts[rank]));
  }
  for (std::size_t rank = 0; rank < 2; ++rank)
    EXPECT_TRUE(processes[rank].engine->activate(*contexts[rank], members).ok());
  return contexts;
}

class TwoProcesses : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }

  void start(const EngineConfig& config) {
    for (Process& process : processes_) {
      Result<std::unique_ptr<Engine>> engine = Engine::create(config);
      ASSERT_TRUE(engine.ok());
      process.engine = std::move(engine).value();
    }
    const auto contexts = make_communicator(processes_);
    for (std::size_t rank = 0; rank < 2; ++rank)
      processes_[rank].context = contexts[rank];
  }

  Process& first() { return processes_[0]; }
  Process& second() { return processes_[1]; }

  Processes processes_;
};

}  // namespace mooncake_mpi::testing
