// What a waiting thread asks of those who let it wait.
#include "engine/waiter.h"

#include <gtest/gtest.h>

#include <limits>

namespace mooncake_mpi {
namespace {

constexpr std::uint64_t kForeverNs = 60'000'000'000;

// Whenever it comes, on the way to sleep too, one yes is enough: a matched probe takes a message
// with each.
TEST(Waiter, AsksNoMoreAfterItWasToldThatItIsDone) {
  const linux_driver::GlobalBarrier barrier;
  for (const WaitPolicy policy : {WaitPolicy{0, 0}, WaitPolicy{kForeverNs, 0}}) {
    for (int yes = 1; yes < 300; ++yes) {
      Doorbell doorbell;
      int asked = 0;
      int sleeps = 0;
      const auto done = [&] { return ++asked >= yes; };
      // What is done is brought by others; somebody rings before each sleep.
      const auto progress = [&] {
        doorbell.wake();
        return 0;
      };
      const auto nap = [] { return std::numeric_limits<std::uint64_t>::max(); };
      const auto before_sleep = [&](bool sleeping) { sleeps += sleeping ? 1 : -1; };
      EXPECT_EQ(
          wait_for(doorbell, barrier, policy, kForeverNs, false, done, progress, nap, before_sleep),
          WaitResult::kDone);
      EXPECT_EQ(asked, yes);
      EXPECT_EQ(sleeps, 0);
      EXPECT_EQ(doorbell.sleepers.load(), 0u);
    }
  }
}

}  // namespace
}  // namespace mooncake_mpi
