// Whether a process lives, by a word that the kernel writes: children hold marks in memory that
// this process maps, and end in every way that there is.
#include "drivers/linux/life_mark.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <thread>

#include "drivers/linux/process_memory.h"

namespace mooncake_mpi::linux_driver {
namespace {

class LifeMarks : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef __GLIBC__
    GTEST_SKIP() << "no marks with this C library";
#endif
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared;
  }
  void TearDown() override {
    if (shared_ != nullptr) munmap(shared_, sizeof(Shared));
  }

  struct Shared {
    LifeMark mark;
    std::uint64_t word = 7;
  };

  // A child whose second thread holds the mark; `then` follows in its first.
  template <class Then>
  pid_t child(Then then) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      std::thread holder([&] {
        shared_->mark.hold();
        EXPECT_EQ(write(ready[1], "r", 1), 1);
        for (;;)
          pause();
      });
      holder.detach();
      then();
      _exit(3);
    }
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
  }
  static void wait_for(pid_t pid) { ASSERT_EQ(waitpid(pid, nullptr, 0), pid); }

  Shared* shared_ = nullptr;
};

TEST_F(LifeMarks, NobodyHoldsMemoryOfZeros) {
  EXPECT_FALSE(shared_->mark.is_held());
}

TEST_F(LifeMarks, OneIsHeldUntilItsThreadLetsGo) {
  shared_->mark.hold();
  EXPECT_TRUE(shared_->mark.is_held());
  shared_->mark.let_go();
  EXPECT_FALSE(shared_->mark.is_held());
  shared_->mark.let_go();  // nothing
}

TEST_F(LifeMarks, AThreadThatEndsLosesIt) {
  std::thread([&] { shared_->mark.hold(); }).join();
  EXPECT_FALSE(shared_->mark.is_held());
}

TEST_F(LifeMarks, AKilledProcessLosesItBeforeItsNumberGoes) {
  const pid_t pid = child([] {
    for (;;)
      pause();
  });
  EXPECT_TRUE(shared_->mark.is_held());
  kill(pid, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);  // a zombie still
  EXPECT_FALSE(shared_->mark.is_held());
  wait_for(pid);
}

TEST_F(LifeMarks, AnotherProgramInTheProcessDoesNotHoldIt) {
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t pid = child([&] {
    char byte = 0;
    EXPECT_EQ(read(go[0], &byte, 1), 1);
    execl("/bin/sh", "sh", "-c", "echo; exec sleep 60", nullptr);
  });
  EXPECT_TRUE(shared_->mark.is_held());
  ASSERT_EQ(write(go[1], "g", 1), 1);
  while (shared_->mark.is_held())
    usleep(1000);
  kill(pid, SIGKILL);
  wait_for(pid);
  close(go[0]);
  close(go[1]);
}

// The number of a process that has ended is another's: here this process's own.
TEST_F(LifeMarks, MemoryOfAProcessWhoseMarkIsLostIsProvedByItsWord) {
  const RemoteProcess reused{getpid(), reinterpret_cast<std::uint64_t>(&shared_->word), 8,
                             &shared_->mark};
  SystemProcessMemory memory;
  std::uint64_t there = 5;
  std::uint64_t here = 6;
  const auto address = reinterpret_cast<std::uint64_t>(&there);
  shared_->mark.hold();
  EXPECT_EQ(memory.read(reused, &here, address, sizeof there), 0);
  EXPECT_EQ(here, 5u);
  EXPECT_EQ(memory.write(reused, &here, address, sizeof there), 0);
  shared_->mark.let_go();
  here = 6;
  EXPECT_EQ(memory.read(reused, &here, address, sizeof there), ESRCH);
  EXPECT_EQ(memory.write(reused, &here, address, sizeof there), ESRCH);
  EXPECT_EQ(there, 5u);
}

}  // namespace
}  // namespace mooncake_mpi::linux_driver
