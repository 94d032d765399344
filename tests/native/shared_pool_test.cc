// Memory made for messages: what is handed out, what goes back, and what fork and limits do to it.
// One thread, and children that it forks.
#include "memory/shared_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "effort.h"

namespace mooncake_mpi {
namespace {

constexpr std::size_t kPage = Arena::kPage;
constexpr SharedPool::Limits kSmall{.arena_bytes = 64 * kPage, .keep_bytes = 16 * kPage};

bool is_all(const std::byte* address, std::size_t bytes, std::uint8_t value) {
  return std::all_of(address, address + bytes,
                     [value](std::byte byte) { return byte == std::byte{value}; });
}

// The memory that the system holds for a region.
std::size_t held_bytes(RegionId region) {
  struct stat status {};
  EXPECT_EQ(fstat(descriptor_of(region), &status), 0);
  return static_cast<std::size_t>(status.st_blocks) * 512;
}

TEST(SharedPool, BlocksNeverOverlapAndKeepTheirBytesWhateverIsFreedAroundThem) {
  SharedPool pool(kSmall);
  std::mt19937 random(7);
  struct Held {
    std::byte* address;
    std::size_t bytes;
    std::uint8_t value;
  };
  std::vector<Held> held;
  std::size_t most_regions = 0;
  for (int step = 0; step < effort(20'000); ++step) {
    if (random() % 2 == 0 || held.empty()) {
      const std::size_t bytes = 1 + random() % (random() % 50 == 0 ? 100 * kPage : 6 * kPage);
      const Arena::Block block = pool.allocate(bytes);
      ASSERT_NE(block.address, nullptr);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block.address) % kPage, 0u);
      ASSERT_GE(pool.block_bytes(block.address), bytes);
      if (block.zeroed) {
        ASSERT_TRUE(is_all(block.address, bytes, 0)) << step;
      }
      const auto value = static_cast<std::uint8_t>(1 + random() % 255);
      std::memset(block.address, value, bytes);
      held.push_back({block.address, bytes, value});
    } else {
      const std::size_t which = random() % held.size();
      const Held freed = held[which];
      ASSERT_TRUE(is_all(freed.address, freed.bytes, freed.value)) << step;
      ASSERT_TRUE(pool.free(freed.address));
      ASSERT_FALSE(pool.free(freed.address));
      held.erase(held.begin() + static_cast<long>(which));
    }
    ASSERT_LE(pool.usage().kept_bytes, kSmall.keep_bytes);
    most_regions = std::max(most_regions, pool.usage().regions);
    if (held.size() > 60) {
      for (const Held& one : held)
        ASSERT_TRUE(pool.free(one.address));
      held.clear();
      ASSERT_EQ(pool.usage().live_bytes, 0u);
      ASSERT_EQ(pool.usage().regions, 1u);
    }
  }
  EXPECT_GT(most_regions, 1u);
  EXPECT_EQ(pool.usage().refused, 0u);
}

TEST(SharedPool, ARegionIsFoundForBytesThatLieInItEntirely) {
  SharedPool pool(kSmall);
  std::byte* address = pool.allocate(3 * kPage).address;
  const RegionId region = pool.region_of(address, 3 * kPage);
  ASSERT_TRUE(is_region(region));
  EXPECT_EQ(pool.region_of(address + 100, 1), region);
  EXPECT_EQ(pool.region_of(address, 64 * kPage + 1), 0u);
  EXPECT_EQ(pool.region_of(address, SIZE_MAX), 0u);
  EXPECT_EQ(pool.region_of(address - kPage, 1), 0u) << "the header is nobody's buffer";
  int local = 0;
  EXPECT_EQ(pool.region_of(&local, sizeof local), 0u);
  EXPECT_EQ(pool.region_of(nullptr, 1), 0u);
  EXPECT_FALSE(pool.free(&local));
  EXPECT_FALSE(pool.free(address + kPage));
  EXPECT_EQ(pool.block_bytes(address + 8), 3 * kPage) << "a block is found by its first page";
}

TEST(SharedPool, WhoAsksAgainHearsOfRegionsThatHaveGone) {
  SharedPool pool(kSmall);
  std::byte* first = pool.allocate(60 * kPage).address;
  std::byte* second = pool.allocate(60 * kPage).address;
  SharedPool::Seen seen;
  const RegionId region = pool.region_of(second, kPage, seen);
  EXPECT_EQ(region, pool.region_of(second, kPage));
  EXPECT_NE(region, 0u);
  EXPECT_EQ(pool.region_of(second + 60 * kPage - 1, 1, seen), region);
  EXPECT_EQ(pool.region_of(second, SIZE_MAX, seen), 0u);
  EXPECT_EQ(pool.region_of(first, kPage, seen), pool.region_of(first, kPage));
  EXPECT_EQ(pool.region_of(second, kPage, seen), region);
  EXPECT_EQ(pool.region_of(&pool, 1, seen), 0u);
  ASSERT_TRUE(pool.free(second));
  EXPECT_EQ(pool.region_of(second, kPage, seen), 0u);
  EXPECT_EQ(pool.region_of(first, kPage, seen), pool.region_of(first, kPage));
}

TEST(SharedPool, FreedMemoryBeyondTheLimitGoesBackToTheSystem) {
  SharedPool pool({.arena_bytes = 1024 * kPage, .keep_bytes = 100 * kPage});
  std::byte* address = pool.allocate(500 * kPage).address;
  std::memset(address, 1, 500 * kPage);
  const RegionId region = pool.region_of(address, 1);
  EXPECT_GE(held_bytes(region), 500 * kPage);
  pool.free(address);
  EXPECT_EQ(pool.usage().kept_bytes, 100 * kPage);
  EXPECT_LE(held_bytes(region), 101 * kPage);
  pool.set_keep_bytes(0);
  EXPECT_LE(held_bytes(region), kPage);
}

TEST(SharedPool, AllocatingAndFreeingOverAndOverKeepsRegionAndMemory) {
  SharedPool pool(kSmall);
  std::byte* first = pool.allocate(10 * kPage).address;
  const RegionId region = pool.region_of(first, 1);
  pool.free(first);
  for (int i = 0; i < 10'000; ++i) {
    std::byte* address = pool.allocate(10 * kPage).address;
    ASSERT_EQ(address, first);
    ASSERT_EQ(pool.region_of(address, 1), region);
    pool.free(address);
  }
}

TEST(SharedPool, WithoutDescriptorsThereIsNoBlockAndLaterThereIs) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(0);
  ASSERT_GE(next, 0);
  close(next);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  SharedPool pool(kSmall);
  EXPECT_EQ(pool.allocate(100).address, nullptr);
  EXPECT_EQ(pool.usage().refused, 1u);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_NE(pool.allocate(100).address, nullptr);
}

TEST(SharedPool, WhereFilesMayNotGrowThereIsNoBlock) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{kPage, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  SharedPool pool(kSmall);
  const Arena::Block block = pool.allocate(100 * kPage);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(block.address, nullptr);
}

TEST(SharedPool, MoreThanThereIsAddressSpaceIsRefused) {
  SharedPool pool(kSmall);
  EXPECT_EQ(pool.allocate(SIZE_MAX).address, nullptr);
  EXPECT_EQ(pool.allocate(SIZE_MAX / 2).address, nullptr);
  EXPECT_EQ(pool.allocate(std::size_t{1} << 60).address, nullptr);
  EXPECT_NE(pool.allocate(1).address, nullptr);
}

// Runs `body` in a child and returns its exit status.
template <class Body>
int in_child(SharedPool& pool, Body&& body) {
  pool.before_fork();
  const pid_t child = fork();
  if (child == 0) {
    pool.after_fork_in_child();
    _exit(body());
  }
  pool.after_fork_in_parent();
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  return WEXITSTATUS(status);
}

TEST(SharedPool, AForkedChildSeesItsParentsBytesAndItsWritesStayItsOwn) {
  SharedPool pool(kSmall);
  std::byte* address = pool.allocate(3 * kPage).address;
  std::memset(address, 1, 3 * kPage);
  const int status = in_child(pool, [&] {
    if (!is_all(address, 3 * kPage, 1)) return 1;
    std::memset(address, 2, 3 * kPage);
    return is_all(address, 3 * kPage, 2) ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(is_all(address, 3 * kPage, 1));
}

TEST(SharedPool, AForkedChildFreesAndAllocatesWithoutTouchingItsParentsMemory) {
  SharedPool pool({.arena_bytes = 64 * kPage, .keep_bytes = 0});
  std::byte* address = pool.allocate(8 * kPage).address;
  std::byte* other = pool.allocate(kPage).address;
  std::memset(address, 1, 8 * kPage);
  const int status = in_child(pool, [&] {
    if (!pool.free(address)) return 1;
    if (pool.allocate(kPage).address != nullptr) return 2;
    if (pool.region_of(other, 1) != 0) return 3;
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(is_all(address, 8 * kPage, 1));
  EXPECT_TRUE(pool.free(address));
}

}  // namespace
}  // namespace mooncake_mpi
