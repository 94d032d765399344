// Memory of the pool that stays registered: never longer than its pages are there, never more than
// the limit, and every registration that is handed out covers what was asked for. One thread, and
// in one test another that frees.
#include "memory/registration_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "drivers/verbs/fake_fabric.h"
#include "drivers/verbs/fake_objects.h"
#include "effort.h"

namespace mooncake_mpi {
namespace {

using verbs_driver::FakeFabric;
using verbs_driver::FakeMemoryRegion;
using verbs_driver::Step;

constexpr std::size_t kGranule = RegistrationCache::kGranule;
constexpr SharedPool::Limits kRoom{.arena_bytes = 16 * kGranule, .keep_bytes = 16 * kGranule};

struct Adapter {
  explicit Adapter(std::size_t limit = SIZE_MAX, const SharedPool::Limits& limits = kRoom)
      : pool(limits), device(std::move(provider->open("fake0")).value()) {
    cache.emplace(*device, pool, limit);
    idle = fabric.live();
  }
  std::uint64_t registrations() const { return fabric.calls(Step::kRegisterMemory); }
  std::size_t open_regions() const { return fabric.live() - idle; }
  std::byte* allocate(std::size_t bytes) { return pool.allocate(bytes).address; }

  FakeFabric fabric;
  SharedPool pool;
  std::unique_ptr<verbs_driver::Provider> provider = fabric.make_provider(1);
  std::unique_ptr<verbs_driver::Device> device;
  std::optional<RegistrationCache> cache;
  std::size_t idle = 0;
};

bool covers(const RegistrationCache::Region& region, const std::byte* address, std::size_t bytes) {
  return region != nullptr && static_cast<const FakeMemoryRegion&>(*region).covers(address, bytes);
}

TEST(RegistrationCache, BytesThatLieSideBySideShareARegistrationThatStays) {
  Adapter adapter;
  std::byte* first = adapter.allocate(1000);
  std::byte* second = adapter.allocate(100'000);
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_TRUE(covers(adapter.cache->acquire(first, 1000), first, 1000));
    EXPECT_TRUE(covers(adapter.cache->acquire(second + 5, 90'000), second + 5, 90'000));
  }
  EXPECT_LE(adapter.registrations(), 2u) << "they may lie in two granules";
  EXPECT_GE(adapter.open_regions(), 1u);
  adapter.cache.reset();
  EXPECT_EQ(adapter.open_regions(), 0u);
}

TEST(RegistrationCache, OnlyMemoryOfThePoolIsKept) {
  Adapter adapter;
  std::vector<std::byte> other(1000);
  EXPECT_EQ(adapter.cache->acquire(other.data(), other.size()), nullptr);
  std::byte* mine = adapter.allocate(1000);
  EXPECT_EQ(adapter.cache->acquire(mine, 64 * kGranule), nullptr) << "it ends before";
  EXPECT_EQ(adapter.cache->acquire(mine, SIZE_MAX), nullptr);
  EXPECT_EQ(adapter.registrations(), 0u);
}

TEST(RegistrationCache, FreedMemoryStaysRegisteredUntilItsPagesGo) {
  Adapter adapter;
  std::byte* block = adapter.allocate(3 * kGranule);
  std::memset(block, 1, 3 * kGranule);
  ASSERT_TRUE(covers(adapter.cache->acquire(block, 3 * kGranule), block, 3 * kGranule));
  adapter.pool.free(block);
  ASSERT_EQ(adapter.allocate(3 * kGranule), block);
  EXPECT_TRUE(covers(adapter.cache->acquire(block, 3 * kGranule), block, 3 * kGranule));
  EXPECT_EQ(adapter.registrations(), 1u);

  const RegistrationCache::Region under_way = adapter.cache->acquire(block, 8);
  adapter.pool.free(block);
  adapter.pool.set_keep_bytes(0);
  EXPECT_EQ(adapter.cache->registered_bytes(), 0u);
  EXPECT_TRUE(covers(under_way, block, 8)) << "whoever has it keeps it";
  ASSERT_EQ(adapter.allocate(3 * kGranule), block);
  const RegistrationCache::Region afresh = adapter.cache->acquire(block, 8);
  EXPECT_NE(afresh, under_way);
  EXPECT_EQ(adapter.registrations(), 2u);
}

TEST(RegistrationCache, ARegionThatGoesTakesItsRegistrationsAlong) {
  Adapter adapter;
  adapter.allocate(kRoom.arena_bytes - 2 * kGranule);  // so that the next one gets a region
  std::byte* block = adapter.allocate(4 * kGranule);
  ASSERT_NE(adapter.cache->acquire(block, 4 * kGranule), nullptr);
  ASSERT_EQ(adapter.pool.usage().regions, 2u);
  adapter.pool.free(block);
  ASSERT_EQ(adapter.pool.usage().regions, 1u);
  EXPECT_EQ(adapter.open_regions(), 0u);
}

TEST(RegistrationCache, BeyondTheLimitTheLeastRecentlyUsedGoes) {
  Adapter adapter(4 * kGranule);
  std::byte* block = adapter.allocate(12 * kGranule);
  // the middles of granules, so that each is one
  const auto at = [&](std::size_t granule) {
    return block + granule * kGranule + kGranule / 2 -
           (reinterpret_cast<std::uintptr_t>(block) & (kGranule - 1));
  };
  for (std::size_t granule = 1; granule <= 4; ++granule)
    ASSERT_NE(adapter.cache->acquire(at(granule), 8), nullptr);
  adapter.cache->acquire(at(1), 8);
  ASSERT_EQ(adapter.registrations(), 4u);
  ASSERT_NE(adapter.cache->acquire(at(5), 8), nullptr);
  EXPECT_LE(adapter.cache->registered_bytes(), 4 * kGranule);
  adapter.cache->acquire(at(1), 8);
  EXPECT_EQ(adapter.registrations(), 5u) << "the one used last stayed";
  adapter.cache->acquire(at(2), 8);
  EXPECT_EQ(adapter.registrations(), 6u) << "the oldest went";
  EXPECT_EQ(adapter.cache->acquire(block, 6 * kGranule), nullptr) << "more than the limit";
  Adapter none(0);
  EXPECT_EQ(none.cache->acquire(none.allocate(100), 100), nullptr);
}

TEST(RegistrationCache, WhereTheAdapterRefusesOthersGoAndItIsTriedOnceMore) {
  Adapter adapter;
  std::byte* block = adapter.allocate(8 * kGranule);
  ASSERT_NE(adapter.cache->acquire(block, 8), nullptr);
  adapter.fabric.fail(Step::kRegisterMemory, 0, 1, ENOMEM);
  std::byte* far = block + 5 * kGranule;
  EXPECT_TRUE(covers(adapter.cache->acquire(far, 8), far, 8));
  EXPECT_EQ(adapter.open_regions(), 1u);
  adapter.fabric.fail(Step::kRegisterMemory, 0, 2, ENOMEM);
  EXPECT_EQ(adapter.cache->acquire(block, 8), nullptr);
  EXPECT_EQ(adapter.open_regions(), 0u);
  EXPECT_FALSE(adapter.cache->clear());
  EXPECT_NE(adapter.cache->acquire(block, 8), nullptr);
  EXPECT_TRUE(adapter.cache->clear());
  EXPECT_EQ(adapter.open_regions(), 0u);
}

TEST(RegistrationCache, WhateverIsAskedForIsCoveredAndNothingIsLeft) {
  Adapter adapter(6 * kGranule, {.arena_bytes = 16 * kGranule, .keep_bytes = 2 * kGranule});
  std::mt19937_64 random(5);
  std::vector<std::pair<std::byte*, std::size_t>> blocks;
  std::uint64_t asked = 0;
  for (int step = 0; step < effort(20'000); ++step) {
    if (blocks.size() < 3 || random() % 8 == 0) {
      const std::size_t bytes = 1 + random() % (random() % 4 == 0 ? 5 * kGranule : 100'000);
      blocks.emplace_back(adapter.allocate(bytes), bytes);
    } else if (random() % 8 == 0 || blocks.size() > 20) {
      const std::size_t which = random() % blocks.size();
      ASSERT_TRUE(adapter.pool.free(blocks[which].first));
      blocks.erase(blocks.begin() + static_cast<long>(which));
    } else {
      const auto [address, size] = blocks[random() % blocks.size()];
      const std::size_t offset = random() % size;
      const std::size_t bytes = 1 + random() % (size - offset);
      ++asked;
      if (const auto region = adapter.cache->acquire(address + offset, bytes)) {
        ASSERT_TRUE(covers(region, address + offset, bytes)) << step;
      }
      ASSERT_LE(adapter.cache->registered_bytes(), 6 * kGranule);
    }
  }
  EXPECT_LT(adapter.registrations(), asked) << "some were known";
  for (const auto& [address, bytes] : blocks)
    adapter.pool.free(address);
  adapter.pool.set_keep_bytes(0);
  EXPECT_EQ(adapter.open_regions(), 0u);
}

TEST(RegistrationCache, PagesMayGoInAnyThread) {
  Adapter adapter(4 * kGranule, {.arena_bytes = 32 * kGranule, .keep_bytes = 0});
  std::byte* mine = adapter.allocate(kGranule);
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over) {
      std::byte* block = adapter.allocate(100'000);
      block[0] = std::byte{1};
      adapter.pool.free(block);
    }
  });
  for (int turn = 0; turn < effort(20'000); ++turn) {
    const std::size_t offset = static_cast<std::size_t>(turn) * 97 % (kGranule - 100);
    ASSERT_TRUE(covers(adapter.cache->acquire(mine + offset, 100), mine + offset, 100));
  }
  over = true;
  other.join();
}

}  // namespace
}  // namespace mooncake_mpi
