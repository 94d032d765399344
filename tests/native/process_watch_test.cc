// The end of real processes is noticed, and of no others. One thread waits, and in one test another
// interrupts it.
#include "drivers/linux/process_watch.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "drivers/linux/process_status.h"

namespace mooncake_mpi::linux_driver {
namespace {

using Added = ProcessWatch::Added;

class Child {
 public:
  Child() : pid_(fork()) {
    if (pid_ == 0) {
      for (;;)
        pause();
    }
  }
  ~Child() {
    kill(pid_, SIGKILL);
    if (!reaped_) waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  void die() const { kill(pid_, SIGKILL); }
  void reap() {
    waitpid(pid_, nullptr, 0);
    reaped_ = true;
  }

 private:
  pid_t pid_;
  bool reaped_ = false;
};

std::uint64_t start_time(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i)
    fields >> field;
  return std::stoull(field);
}

class ProcessWatchTest : public ::testing::TestWithParam<bool> {
 protected:
  ProcessWatchTest() {
    if (GetParam()) watch_.refuse_descriptors();
  }
  std::vector<std::uint64_t> wait() {
    std::vector<std::uint64_t> ended;
    while (ended.empty())
      watch_.wait(ended);
    return ended;
  }
  SystemProcessWatch watch_;
};

TEST_P(ProcessWatchTest, TellsWhichProcessEndedOnceAndBeforeItIsReaped) {
  Child first;
  Child second;
  ASSERT_EQ(watch_.add(first.pid(), start_time(first.pid()), 1), Added::kWatching);
  ASSERT_EQ(watch_.add(second.pid(), start_time(second.pid()), 2), Added::kWatching);
  second.die();
  EXPECT_EQ(wait(), std::vector<std::uint64_t>{2});
  first.die();
  EXPECT_EQ(wait(), std::vector<std::uint64_t>{1});
}

TEST_P(ProcessWatchTest, AProcessThatIsNoMoreIsGoneWhenItIsAdded) {
  Child child;
  const std::uint64_t start = start_time(child.pid());
  child.die();
  child.reap();
  EXPECT_EQ(watch_.add(child.pid(), start, 1), Added::kGone);
}

TEST_P(ProcessWatchTest, AnotherProcessOfTheSameNumberIsNotTakenForIt) {
  Child child;
  EXPECT_EQ(watch_.add(child.pid(), start_time(child.pid()) + 1, 1), Added::kGone);
  EXPECT_TRUE(process_has_ended(child.pid(), start_time(child.pid()) + 1));
  EXPECT_FALSE(process_has_ended(child.pid(), start_time(child.pid())));
}

TEST(ProcessStatus, AProcessOnItsWayOutHasEnded) {
  using Life = ProcessStatus::Life;
  const auto status = [](const char* state, const char* flags) {
    return parse_process_status(std::string("77 (a) b) ") + state + " 1 77 77 0 -1 " + flags +
                                " 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0\n");
  };
  EXPECT_EQ(status("R", "4194304").life, Life::kRunning);
  EXPECT_EQ(status("R", "4194304").start_time, 1234);
  EXPECT_EQ(status("R", "4194308").life, Life::kEnded);  // its descriptors are gone, it is not
  EXPECT_EQ(status("R", "4194308").start_time, 1234);
  EXPECT_EQ(status("Z", "4194304").life, Life::kEnded);
}

TEST_P(ProcessWatchTest, AStoppedProcessHasNotEnded) {
  Child child;
  ASSERT_EQ(watch_.add(child.pid(), start_time(child.pid()), 1), Added::kWatching);
  kill(child.pid(), SIGSTOP);
  std::thread interrupter([&] {
    usleep(600'000);
    watch_.interrupt();
  });
  std::vector<std::uint64_t> ended;
  for (int looks = 0; looks < (GetParam() ? 3 : 1); ++looks)
    watch_.wait(ended);
  interrupter.join();
  EXPECT_TRUE(ended.empty());
}

TEST_P(ProcessWatchTest, AnInterruptBeforeTheWaitIsNotLost) {
  watch_.interrupt();
  std::vector<std::uint64_t> ended;
  watch_.wait(ended);
  EXPECT_TRUE(ended.empty());
}

INSTANTIATE_TEST_SUITE_P(Ways, ProcessWatchTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Looking" : "Descriptors"; });

}  // namespace
}  // namespace mooncake_mpi::linux_driver
