// Cross-memory attach proves whose memory it touches: here the wrong process is this one, with
// another word at the probe's address.
#include "drivers/linux/process_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace mooncake_mpi::linux_driver {
namespace {

class ProcessMemoryProof : public ::testing::Test {
 protected:
  static std::uint64_t address_of(const void* pointer) {
    return reinterpret_cast<std::uint64_t>(pointer);
  }

  RemoteProcess right() const { return {getpid(), address_of(&word_), word_}; }
  RemoteProcess wrong() const { return {getpid(), address_of(&word_), word_ + 1}; }
  RemoteProcess without_probe() const { return {getpid(), 8, word_}; }

  std::uint64_t word_ = 0x1234'5678'9abc'def1u;
  SystemProcessMemory memory_;
};

TEST_F(ProcessMemoryProof, TheRightProcessIsReadAndWritten) {
  std::vector<std::byte> from(3'000'000, std::byte{7});
  std::vector<std::byte> into(from.size());
  ASSERT_EQ(memory_.read(right(), into.data(), address_of(from.data()), from.size()), 0);
  EXPECT_EQ(into, from);
  std::vector<std::byte> other(from.size(), std::byte{8});
  ASSERT_EQ(memory_.write(right(), other.data(), address_of(into.data()), into.size()), 0);
  EXPECT_EQ(into, other);
}

TEST_F(ProcessMemoryProof, WhatWasReadOfAnotherProcessIsRefused) {
  std::uint64_t there = 5;
  std::uint64_t here = 0;
  EXPECT_EQ(memory_.read(wrong(), &here, address_of(&there), sizeof there), ESRCH);
  EXPECT_EQ(memory_.read(without_probe(), &here, address_of(&there), sizeof there), ESRCH);
  EXPECT_EQ(memory_.read(wrong(), &here, 8, sizeof here), ESRCH);
}

TEST_F(ProcessMemoryProof, AnotherProcessIsNeverWritten) {
  std::uint64_t there = 5;
  const std::uint64_t here = 6;
  EXPECT_EQ(memory_.write(wrong(), &here, address_of(&there), sizeof there), ESRCH);
  EXPECT_EQ(memory_.write(without_probe(), &here, address_of(&there), sizeof there), ESRCH);
  EXPECT_EQ(there, 5u);
}

TEST_F(ProcessMemoryProof, AFaultOfTheRightProcessIsAFault) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* pages = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(mprotect(static_cast<std::byte*>(pages) + page, page, PROT_NONE), 0);
  std::vector<std::byte> into(2 * page);
  EXPECT_EQ(memory_.read(right(), into.data(), address_of(pages), into.size()), EFAULT);
  EXPECT_EQ(memory_.read(right(), into.data(), 8, 8), EFAULT);
  munmap(pages, 2 * page);
}

}  // namespace
}  // namespace mooncake_mpi::linux_driver
