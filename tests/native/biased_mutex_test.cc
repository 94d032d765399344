// The lock that favours its first thread excludes all others, also when the favour ends.
// Several threads at once.
#include "base/biased_mutex.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace mooncake_mpi {
namespace {

void sleep_us(long microseconds) {
  const timespec duration{0, microseconds * 1000};
  nanosleep(&duration, nullptr);
}

// Counts how often two threads were between enter() and leave() at once.
class Occupancy {
 public:
  void enter() {
    if (inside_.fetch_add(1, std::memory_order_relaxed) != 0) overlaps_.fetch_add(1);
  }
  void leave() { inside_.fetch_sub(1, std::memory_order_relaxed); }
  int overlaps() const { return overlaps_.load(); }

 private:
  std::atomic<int> inside_{0};
  std::atomic<int> overlaps_{0};
};

void visit(BiasedMutex& mutex, Occupancy& occupancy, int times, int work) {
  for (int i = 0; i < times; ++i) {
    std::lock_guard lock(mutex);
    occupancy.enter();
    for (int spin = 0; spin < work; ++spin)
      cpu_relax();
    occupancy.leave();
  }
}

TEST(BiasedMutex, GuardsPlainDataOfManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kTimes = 20'000;
  BiasedMutex mutex;
  long count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int time = 0; time < kTimes; ++time) {
        std::lock_guard lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(count, long{kThreads} * kTimes);
}

TEST(BiasedMutex, AVisitorNowAndThenKeepsOutOfTheOwnersWay) {
  for (int round = 0; round < 20; ++round) {
    BiasedMutex mutex;
    Occupancy occupancy;
    std::atomic<bool> done{false};
    visit(mutex, occupancy, 1, 0);  // this thread owns it
    std::thread visitor([&] {
      for (int i = 0; i < 40; ++i) {
        visit(mutex, occupancy, 1, 100);
        sleep_us(20);
      }
      done = true;
    });
    while (!done)
      visit(mutex, occupancy, 100, 1);
    visitor.join();
    ASSERT_EQ(occupancy.overlaps(), 0) << "round " << round;
  }
}

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

// Runs the owner's lock and unlock instruction by instruction, and holds it up after one of them
// for as long as a visitor needs to do `visit_first` and then hold the lock itself.
class HeldUpOwner {
 public:
  HeldUpOwner() {
    struct sigaction handler {};
    handler.sa_handler = on_instruction;
    sigaction(SIGTRAP, &handler, &before_);
  }
  ~HeldUpOwner() { sigaction(SIGTRAP, &before_, nullptr); }

  // Returns the number of instructions that were stepped through.
  static int run(BiasedMutex& mutex, int held_up_at) {
    Occupancy occupancy;
    instruction_ = 0;
    held_up_at_ = held_up_at;
    go_ = holding_ = false;
    visit(mutex, occupancy, 1, 0);  // this thread owns it
    std::thread visitor([&] {
      while (!go_)
        cpu_relax();
      visit(mutex, occupancy, 100, 0);  // the bias has ended when this returns
      std::lock_guard lock(mutex);
      occupancy.enter();
      holding_ = true;
      sleep_us(5'000);  // the owner must still be outside then
      occupancy.leave();
    });
    single_step(true);
    mutex.lock();
    occupancy.enter();
    occupancy.leave();
    mutex.unlock();
    single_step(false);
    go_ = true;
    visitor.join();
    EXPECT_EQ(occupancy.overlaps(), 0) << "held up after instruction " << held_up_at;
    return instruction_;
  }

 private:
  static void single_step(bool on) {
    constexpr unsigned long long kTrapFlag = 0x100;
    const unsigned long long flags = __builtin_ia32_readeflags_u64();
    __builtin_ia32_writeeflags_u64(on ? flags | kTrapFlag : flags & ~kTrapFlag);
  }

  static void on_instruction(int) {
    if (++instruction_ != held_up_at_) return;
    go_ = true;
    // Where the owner is inside already the visitor rightly waits, so this gives up.
    for (int i = 0; i < 100 && !holding_; ++i)
      sleep_us(100);
  }

  static inline std::atomic<int> instruction_{0};
  static inline std::atomic<int> held_up_at_{0};
  static inline std::atomic<bool> go_{false};
  static inline std::atomic<bool> holding_{false};
  struct sigaction before_ {};
};

TEST(BiasedMutex, AnOwnerHeldUpAnywhereStaysOutWhenTheBiasEndsMeanwhile) {
  HeldUpOwner owner;
  BiasedMutex measured;
  const int instructions = HeldUpOwner::run(measured, 0);
  ASSERT_GT(instructions, 5);
  for (int at = 1; at <= std::min(instructions, 200); ++at) {
    BiasedMutex mutex;
    HeldUpOwner::run(mutex, at);
  }
}

#endif

}  // namespace
}  // namespace mooncake_mpi
